"""Tables as text."""

from smartaug._base.text_tables import figures_table, words_table

ROWS = [("name", "of", "why"), ("a", "all of it", ""), ("longer", "b", "because")]


def test_words_begin_at_the_same_place():
    head, first, second = words_table(ROWS).split("\n")
    assert head == "name    of         why"
    assert first == "a       all of it  "
    assert second == "longer  b          because"


def test_figures_end_at_the_same_place_below_a_rule():
    head, rule, first, second = figures_table(ROWS).split("\n")
    assert head == "  name         of      why"
    assert rule == "-" * len(head)
    assert first == "     a  all of it         "
    assert second == "longer          b  because"
