"""Following a loop, in a terminal and as a widget: rows pass unchanged, the button ends it, the state stays usable."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import advcl_nb as adv
from advcl_nb.explore import watching

ROWS = [{"epoch": k + 1.0, "loss": 3.0 - k, "seconds": 2.0 * (k + 1), "seconds_left": 4.0 - 2 * k} for k in range(3)]


class Kernel:
    """Stands for IPython in a notebook: watch asks it whether clicks have to be looked for."""

    kernel = object()


@pytest.fixture
def notebook(monkeypatch):
    """Make watch believe that it is in a notebook; collects what it displays."""
    shown = []

    class Handle:
        update = staticmethod(lambda widget: shown.append(("update", widget._repr_mimebundle_())))

    monkeypatch.setattr(watching, "get_ipython", Kernel)
    monkeypatch.setattr(watching, "display", lambda widget, display_id: shown.append(("display", widget)) or Handle())
    return shown


def test_in_a_terminal_rows_are_lines(capsys, monkeypatch):
    clock = iter([5.0, 5.0, 5.5, 5.9, 6.0])  # asked at each row, and once more when one is printed
    monkeypatch.setattr(watching.time, "perf_counter", lambda: next(clock))
    assert list(adv.watch(ROWS)) == ROWS
    first, last = capsys.readouterr().out.splitlines()  # at most one a second, and the last
    assert first == "epoch 1.00, loss 3, 4 s left"
    assert last == "epoch 3.00, loss 1, 0 s left"


def test_in_a_notebook_the_widget_shows_itself_and_leaves_its_curves(notebook):
    watcher = adv.watch(ROWS)
    assert list(watcher) == ROWS
    (first, widget), (last, bundle) = notebook
    assert (first, last) == ("display", "update") and widget is watcher
    assert watcher.bar.value == 1 and watcher.stop.description == "Ended" and watcher.stop.disabled
    assert watcher.picture.value[:4] == b"\x89PNG" and "image/png" in bundle
    assert bundle["text/plain"] == watcher.words.value == "epoch 3.00, loss 1, 0 s left"


def test_a_name_tells_one_loop_from_another(notebook):
    watcher, nameless = adv.watch(ROWS, name="AFF"), adv.watch(ROWS)
    assert list(watcher) == list(nameless)
    assert watcher.words.value == "AFF: " + nameless.words.value and watcher.bar.description == "AFF"
    assert watcher.picture.value != nameless.picture.value  # it has a legend


def test_the_bar_knows_seconds_left_or_a_length(notebook):
    for rows, expected in ((iter(ROWS), [1 / 3, 2 / 3, 1]), ([{"loss": 1.0}] * 4, [0.25, 0.5, 0.75, 1])):
        watcher = adv.watch(rows)
        assert [watcher.bar.value for _ in watcher] == pytest.approx(expected)


@pytest.mark.parametrize("live", [True, False])
def test_the_button_ends_the_loop_after_the_row_at_hand(live, request):
    if live:
        request.getfixturevalue("notebook")
    watcher, seen = adv.watch(iter(ROWS)), []
    for row in watcher:
        seen.append(row)
        if len(seen) == 2:
            watcher.stop.click()
    assert seen == ROWS[:2]
    assert not live or watcher.stop.description == "Stopped"
    assert list(watcher) == ROWS[2:]  # and goes on when it is run again


def test_a_stopped_run_goes_on_as_if_it_had_not_been(notebook):
    config = adv.preset("smoke")
    images, _ = adv.load_data(config.data)
    config = replace(config, pretrain=replace(config.pretrain, method="simclr", epochs=1))
    runs = [adv.PretrainState.start(config) for _ in range(2)]
    watcher = adv.watch(adv.pretrain_epochs(runs[0], images, every=1))
    for _ in watcher:
        watcher.stop.click()
    assert runs[0].step == 1
    for state in runs:
        list(adv.watch(adv.pretrain_epochs(state, images)))
    one, other = (state.model.state_dict() for state in runs)
    assert runs[0].step == runs[1].step and all(torch.equal(one[name], other[name]) for name in one)


def test_break_and_errors_leave_the_last_picture(notebook):
    for _ in adv.watch(iter(ROWS)):
        break
    assert [kind for kind, _ in notebook] == ["display", "update"]

    def failing():
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(adv.watch(failing()))
    assert [kind for kind, _ in notebook[2:]] == ["display", "update"] and "image/png" in notebook[3][1]


def test_what_gives_no_rows_is_told(notebook):
    for wrong, words in (
        ([1.0], "epochs: expected rows that map names to numbers, got 1.0"),
        ([None], "epochs: expected rows that map names to numbers, got None"),
        ([{}], "epochs: expected rows that map names to numbers"),
        ([{"loss": "low"}], "epochs: expected rows that map names to numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            list(adv.watch(iter(wrong)))
    assert list(adv.watch([])) == []


@pytest.mark.parametrize(
    "rows",
    [
        [{"accuracy": 0.5}, {"accuracy": 0.6}],
        [{"loss": 1.0, "accuracy": 0.5}, {"loss": 0.9}, {"loss": 0.8, "late": 1.0}],
        [{"loss": np.float32(1.5)}, {"loss": torch.tensor(1.0)}],
        [{"epoch": 1, "seconds": 3.0, "seconds_left": 0.0}],
    ],
    ids=["no loss", "keys that come and go", "other kinds of numbers", "no losses"],
)
def test_rows_may_have_what_they_like(rows, notebook):
    watcher = adv.watch(rows)
    assert len(list(watcher)) == len(rows)
    assert bool(watcher.picture.value) == ("epoch" not in rows[0])


def test_a_loop_in_a_loop_looks_at_clicks_once(notebook, monkeypatch):
    """On kernels that have to be asked for clicks, which jupyter_ui_poll refuses to do twice at a time."""
    looked = []

    @contextmanager
    def events():
        looked.append("opened")
        yield lambda count: looked.append(count)
        looked.append("closed")

    monkeypatch.setattr(Kernel, "kernel", SimpleNamespace(do_one_iteration=None))
    monkeypatch.setattr(watching, "ui_events", events)
    for _ in adv.watch(ROWS):
        list(adv.watch(ROWS))
    assert looked == ["opened", 10, 10, 10, "closed"]
    list(adv.watch(ROWS))
    assert looked[-1] == "closed" and looked.count("opened") == 2
