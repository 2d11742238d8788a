"""Whatever is in a label or a number, Prometheus's parser reads back what was meant."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse
from wgengine.metrics import Family, Registry, Sample, render

text = st.text(st.characters(codec="utf-8"), max_size=20) | st.text(alphabet='\\"\nn', max_size=10)
number = st.integers(-(2**70), 2**70) | st.floats()


def same(read, meant):
    return float(read) == float(meant) or (math.isnan(read) and math.isnan(meant))


@given(st.dictionaries(text, number, max_size=8), st.text(st.characters(codec="utf-8", exclude_characters="\x85\r")))
def test_what_is_written_is_read(values, help):
    samples = tuple(Sample(value, (("a", label), ("b", "fixed"))) for label, value in values.items())
    written = render([Family(name="x", kind="gauge", help=help, samples=samples)])
    families = list(parse(written))
    if values:
        (family,) = families
        assert family.documentation.strip() == help.strip()
        read = {sample.labels["a"]: sample.value for sample in family.samples}
        assert read.keys() == values.keys()
        assert all(same(read[label], value) for label, value in values.items())
    assert written.count("\n") == 2 + len(values), "every line break inside is escaped"


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9))), st.integers(1, 6))
def test_a_bounded_counter_loses_nothing(increments, limit):
    counter = Registry(limit).counter("x_total", "X.", ["l"])
    for label, amount in increments:
        counter.inc(amount, l=label)
    samples = {sample.labels[0][1]: sample.value for sample in counter.family().samples}
    assert sum(samples.values()) == sum(amount for _, amount in increments)
    first = list(dict.fromkeys(label for label, _ in increments))
    assert list(samples) == first[:limit] + (["other"] if len(first) > limit else [])
    for label in first[:limit]:
        assert samples[label] == sum(amount for other, amount in increments if other == label)


@given(st.lists(st.floats(allow_nan=False), max_size=20), st.lists(st.floats(allow_nan=False), max_size=5))
def test_buckets_hold_what_is_at_most_as_large(values, bounds):
    histogram = Registry().histogram("x", "X.", buckets=bounds)
    for value in values:
        histogram.observe(value)
    read = {
        sample.labels["le"]: sample.value
        for sample in next(iter(parse(render([histogram.family()])))).samples
        if sample.labels
    }
    assert read == {bound: sum(value <= float(bound) for value in values) for bound in read}
    assert {float(bound) for bound in read} == {*bounds, math.inf}
