"""`python -m wgengine` is `wgengine`."""

import sys

from wgengine.cli.main import main

sys.exit(main())
