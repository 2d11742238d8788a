"""The commands: one file per verb, each loaded only when its verb is called."""
