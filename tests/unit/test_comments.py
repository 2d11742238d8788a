"""Comments as values: frozen, one line each, and opaque where secrets must not show."""

import copy

import pytest
from wgengine.comments import Comment, Comments
from wgengine.errors import ConfigError


def test_a_comment_is_one_line():
    for text in ("a\nb", "a\rb", "a\0b"):
        with pytest.raises(ConfigError, match="one line"):
            Comment(text=text)
    assert Comment(text=" padded  \t").text == " padded"


def test_comments_do_not_show_their_text():
    comments = Comments([Comment(text="PrivateKey = secret")])
    assert "secret" not in repr(comments)
    assert "secret" not in repr(comments[0])


def test_comments_are_a_frozen_sequence():
    first, second = Comment(text="a"), Comment(text="b", key="MTU", where="beside")
    comments = Comments([first, second])
    assert list(comments) == [first, second]
    assert len(comments) == 2
    assert comments[1] == second
    assert comments[:1] == (first,)
    assert comments == Comments((first, second))
    assert comments != Comments((second, first))
    assert comments != [first, second]
    assert hash(comments) == hash(Comments((first, second)))
    assert copy.copy(comments) is comments
    assert copy.deepcopy(comments) is comments
    with pytest.raises(AttributeError):
        comments._all = ()
