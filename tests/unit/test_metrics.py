"""Metrics: instruments, their bounds, and the text, read back by Prometheus's own parser."""

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from wgengine.metrics import Family, Registry, Sample, render


def test_a_counter_goes_up_and_never_down():
    registry = Registry()
    counter = registry.counter("x_total", "X.")
    assert counter.family().samples == (Sample(0),)
    counter.inc()
    counter.inc(2.5)
    assert counter.family().samples == (Sample(3.5),)
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match="x_total only goes up"):
            counter.inc(wrong)
    assert counter.family().samples == (Sample(3.5),)


def test_children_come_with_use_or_when_declared_and_may_go():
    gauge = Registry().gauge("x", "X.", ["a", "b"])
    assert gauge.family().samples == ()
    gauge.declare(a="1", b="2")
    gauge.set(7, b="4", a="3")
    gauge.declare(a="3", b="4")
    assert gauge.family().samples == (Sample(0, (("a", "1"), ("b", "2"))), Sample(7, (("a", "3"), ("b", "4"))))
    gauge.remove(a="1", b="2")
    gauge.remove(a="1", b="2")
    assert gauge.family().samples == (Sample(7, (("a", "3"), ("b", "4"))),)


@pytest.mark.parametrize("labels", [{}, {"a": "1"}, {"a": "1", "c": "2"}, {"a": "1", "b": "2", "c": "3"}])
def test_labels_are_those_that_were_named(labels):
    counter = Registry().counter("x_total", "X.", ["a", "b"])
    with pytest.raises(ValueError, match="x_total has the labels"):
        counter.inc(**labels)
    assert counter.family().samples == ()


def test_what_is_beyond_the_limit_is_other():
    counter = Registry(limit=3).counter("x_total", "X.", ["peer"])
    for number in range(100):
        counter.inc(peer=str(number))
    counter.inc(peer="0")
    samples = {sample.labels[0][1]: sample.value for sample in counter.family().samples}
    assert samples == {"0": 2, "1": 1, "2": 1, "other": 97}
    counter.remove(peer="1")  # other takes that place no more than once
    counter.inc(peer="new")
    assert sum(sample.value for sample in counter.family().samples) == 101
    assert len(counter.family().samples) <= 4


def test_a_histogram_counts_what_is_at_most_as_large():
    histogram = Registry().histogram("x", "X.", ["kind"], buckets=[1.0, 0.1])
    for value in (0.1, 0.5, 1.0, 7.0):
        histogram.observe(value, kind="a")
    with pytest.raises(ValueError, match="nan is none"):
        histogram.observe(math.nan, kind="a")
    assert render([histogram.family()]) == (
        "# TYPE x histogram\n# HELP x X.\n"
        'x_bucket{kind="a",le="0.1"} 1\n'
        'x_bucket{kind="a",le="1.0"} 3\n'
        'x_bucket{kind="a",le="+Inf"} 4\n'
        'x_sum{kind="a"} 8.6\n'
        'x_count{kind="a"} 4\n'
    )


def test_row_37_each_registry_counts_for_itself():
    one, two = Registry(), Registry()
    one.counter("x_total", "X.").inc(5)
    two.counter("x_total", "X.")
    assert ("x_total 5" in one.text(), "x_total 0" in two.text()) == (True, True)
    with pytest.raises(ValueError, match="there is a metric x_total already"):
        one.gauge("y", "Y.") and one.counter("x_total", "X.")


def test_two_metrics_of_one_name_are_a_mistake():
    registry = Registry()
    registry.gauge("x", "X.")
    with pytest.raises(ValueError, match="two metrics x"):
        registry.collect([Family(name="x", kind="gauge", help="", samples=())])


@pytest.mark.parametrize("name", ["", "1x", "x y", "x-y", "ü", "x\n"])
def test_a_name_is_one_that_prometheus_takes(name):
    with pytest.raises(ValueError, match="no name of a metric"):
        Registry().gauge(name, "X.")


@pytest.mark.parametrize("label", ["", "1x", "x-y", "__x", "le", "a:b"])
def test_so_is_a_label(label):
    with pytest.raises(ValueError, match="no name of a label"):
        Registry().gauge("x", "X.", [label])


def test_counters_end_in_total_and_nothing_else_does():
    with pytest.raises(ValueError, match="end in _total"):
        Registry().counter("x", "X.")
    with pytest.raises(ValueError, match="end in _total"):
        Registry().gauge("x_total", "X.")


def test_the_text_has_families_by_name_type_then_help_and_children_by_their_labels():
    registry = Registry()
    registry.gauge("zebra", "Last.").set(1)
    counter = registry.counter("ant_total", "First: a \\ and\na line.", ["kind"])
    counter.inc(3, kind="b")
    counter.inc(4, kind="a")
    pulled = Family(name="middle", kind="gauge", help="", samples=(Sample(0.25),))
    assert registry.text([pulled]) == (
        "# TYPE ant_total counter\n# HELP ant_total First: a \\\\ and\\na line.\n"
        'ant_total{kind="a"} 4\nant_total{kind="b"} 3\n'
        "# TYPE middle gauge\n# HELP middle \nmiddle 0.25\n"
        "# TYPE zebra gauge\n# HELP zebra Last.\nzebra 1\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (True, "1"),
        (10**30, "1" + "0" * 30),
        (5.0, "5"),
        (-5.0, "-5"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (1e15, "1000000000000000.0"),
        (1e22, "1e+22"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_short_and_read_back_as_the_same(value, text):
    line = render([Family(name="x", kind="gauge", help="", samples=(Sample(value),))]).splitlines()[-1]
    assert line == f"x {text}"
    read = float(text)
    assert read == float(value) or (math.isnan(read) and math.isnan(value))


def test_d70_three_characters_are_escaped_and_no_others():
    value = 'a"b\\c\nd\té ß\x00日\r'
    text = render([Family(name="x", kind="gauge", help="", samples=(Sample(1, (("l", value),)),))])
    assert text.split("\n", 2)[2] == 'x{l="a\\"b\\\\c\\nd\té ß\x00日\r"} 1\n'
    (family,) = parse(text)
    assert family.samples[0].labels == {"l": value}


def test_half_a_surrogate_pair_can_still_be_sent():
    text = render([Family(name="x", kind="gauge", help="\ud800", samples=(Sample(1, (("l", "a\udfff"),)),))])
    assert text.encode("utf-8") == b'# TYPE x gauge\n# HELP x ?\nx{l="a?"} 1\n'


def test_the_collector_gives_the_same_through_the_client_library():
    from prometheus_client import CollectorRegistry, generate_latest
    from wgengine.metrics.prometheus import Collector

    ours = Registry()
    ours.counter("a_total", "A.", ["l"]).inc(2, l='x"\n')
    ours.gauge("b", "B.").set(1.5)
    ours.histogram("c", "C.", buckets=[1]).observe(0.5)
    asked = []
    theirs = CollectorRegistry()
    theirs.register(Collector(lambda: asked.append(1) or ours.collect()))
    assert asked == []

    def read(text):
        return {
            (f.name, f.type, f.documentation, s.name, tuple(sorted(s.labels.items())), s.value)
            for f in parse(text)
            for s in f.samples
        }

    assert read(generate_latest(theirs).decode()) == read(ours.text())
    assert len(read(ours.text())) == 6
