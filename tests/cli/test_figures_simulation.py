"""The picture of an experiment's page, from small pages written here."""

import json
from dataclasses import asdict, fields
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from figures.fig_simulation import draw_simulation, looks_for
from figures.page import LARGEST, load_page
from figures.page import Panel as Read
from simulations.experiment import Panel

PNG = b"\x89PNG\r\n\x1a\n"
NAN = float("nan")
FRAMES = {
    "curves": pd.DataFrame(
        [
            {"who": who, "step": step, "entropy": 2.0 - step * rate, "low": 1.9, "high": 2.1 + rate, "target": 1.5}
            for who, rate in (("None", 0.1), ("with | bar", 0.2))
            for step in (1, 10, 100)
        ]
    ).assign(entropy=lambda frame: frame.entropy.where(frame.index != 1)),
    "cloud": pd.DataFrame(
        {"predicted": [3e-3, 1e-3, 2e-3], "measured": [3.1e-3, -1e-3, np.inf], "low": [3e-3, NAN, 0], "high": 4e-3}
    ).assign(identity=lambda frame: frame.predicted),
    "summary": pd.DataFrame({"who": ["with | bar", "None"], "rmse": [0.25, 1e-5], "theory": [0.5, 1e-4], "n": [3, 4]}),
    "grid": pd.DataFrame(
        {"arms": [8, 2, 8, 2], "family": ["zipf", "zipf", "flat", "flat"], "gap": [1.0, -2.0, NAN, 0.5]}
    ),
}
PANELS = [
    Panel("Entropy", "curves", "step", "entropy", by="who", low="low", high="high", x_log=True, reference=("target",)),
    Panel(
        "Change", "cloud", "predicted", "measured", "points", low="low", high="high", reference=("identity",), zero=True
    ),
    Panel("Error", "summary", "who", "rmse", "bar", y_label="RMSE (nats)", y_log=True, reference=("theory",)),
    Panel("Runs", "summary", "who", "n", "bar"),
    Panel("Gap", "grid", "arms", "family", "map", value="gap"),
]


def write(folder, frames=FRAMES, panels=PANELS, suffix=".csv", **more):
    """A directory as `entrocraft simulate` leaves it."""
    (folder / "cells").mkdir(parents=True)
    (folder / "config.yaml").write_text("experiment: made\nsteps: 3\n")
    for name, frame in frames.items():
        if suffix == ".csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{name}.parquet", index=False)
    page = {
        "experiment": "made",
        "claim": "Rules made by hand are drawn. " * 6,
        "findings": ["none: 0.5 +- 0.1.", "with | bar: 0.25."],
        "panels": [asdict(panel) for panel in panels],
        "tables": [f"{name}{suffix}" for name in frames],
    }
    (folder / "page.json").write_text(json.dumps(page | more))
    return folder


@pytest.fixture
def page(tmp_path):
    return write(tmp_path / "made")


@pytest.fixture
def axes_of():
    """A function that draws a page's directory and returns its axes by title."""

    def draw(folder):
        figure = draw_simulation(load_page(folder))
        figure.draw_without_rendering()
        return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}

    yield draw
    plt.close("all")


def lines_of(axes):
    return [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.get_lines()]


def test_a_page_makes_a_picture_and_its_findings(page, command, tmp_path):
    built = command("figures", "build", "simulation", page, f"--output={tmp_path / 'new' / 'place'}")
    assert built.code == 0, built.said
    picture = tmp_path / "new" / "place" / "simulation_made.png"
    assert picture.read_bytes().startswith(PNG)
    assert 20_000 < len(picture.read_bytes()) < 300_000
    for part in (str(picture), "- none: 0.5 +- 0.1.", f"table: {page / 'grid.csv'}, 4 rows"):
        assert part in built.printed
    text = picture.with_suffix(".md").read_text()
    assert text.startswith("# made\n\nRules made by hand")
    assert "\n\n- none: 0.5 +- 0.1.\n- with | bar: 0.25.\n\n![made](simulation_made.png)\n\n## curves\n\n" in text
    assert "## summary\n\n| who | rmse | theory | n |\n|---|---|---|---|\n| with \\| bar | 0.25 | 0.5 | 3 |\n" in text
    assert "| None | 1e-05 | 0.0001 | 4 |\n" in text
    assert "| 8 | flat |  |\n" in text


def test_a_large_table_is_named_and_not_printed(tmp_path, command):
    frames = {
        "small": pd.DataFrame({"x": range(LARGEST), "y": 1.0}),
        "large": pd.DataFrame({"x": range(LARGEST + 1), "y": 1.0}),
    }
    folder = write(tmp_path / "made", frames, [Panel("", "large", "x", "y")])
    assert command("figures", "build", "simulation", folder, f"--output={tmp_path}").code == 0
    text = (tmp_path / "simulation_made.md").read_text()
    assert f"## large\n\n{LARGEST + 1} rows: `{folder / 'large.csv'}`\n" in text
    assert f"| {LARGEST - 1} | 1 |" in text
    assert f"| {LARGEST} | 1 |" not in text


def test_lines_are_drawn_by_series_with_band_and_reference_on_a_logarithmic_axis(page, axes_of):
    axes = axes_of(page)["Entropy"]
    (x, first), (_, second), (_, target) = lines_of(axes)
    assert x == [1, 10, 100]
    assert first[::2] == [1.9, -8]
    assert np.isnan(first[1])
    assert second == [1.8, 0, -18]
    assert target == [1.5, 1.5, 1.5]
    assert [band.get_datalim(axes.transData).y1 for band in axes.collections] == pytest.approx([2.2, 2.3])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "entropy")


def test_points_have_error_bars_a_reference_and_a_zero_line(page, axes_of):
    axes = axes_of(page)["Change"]
    points, identity, zero = axes.get_lines()
    assert points.get_linestyle() == "None"
    assert points.get_xdata().tolist() == [3e-3, 1e-3, 2e-3]
    assert points.get_ydata()[:2].tolist() == [3.1e-3, -1e-3]
    assert np.isnan(points.get_ydata()[2])
    assert identity.get_xdata().tolist() == [1e-3, 2e-3, 3e-3]
    assert zero.get_ydata() == [0, 0]
    segments = [segment.tolist() for segment in axes.collections[0].get_segments()]
    assert [[3e-3, 3e-3], [3e-3, 4e-3]] in segments


def test_bars_are_horizontal_from_the_top_as_given_with_numbers_and_colours_of_the_series(page, axes_of):
    drawn = axes_of(page)
    axes = drawn["Runs"]
    assert [bar.get_width() for bar in axes.patches] == [3, 4]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["with | bar", "None"]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["3", "4"]
    colors = [plt.matplotlib.colors.to_hex(bar.get_facecolor()) for bar in axes.patches]
    assert colors == [line.get_color().lower() for line in drawn["Entropy"].get_lines()[1::-1]]


def test_bars_on_a_logarithmic_axis_are_points(page, axes_of):
    axes = axes_of(page)["Error"]
    assert axes.get_xscale() == "log"
    assert not axes.patches
    assert [x for x, _ in lines_of(axes)] == [[0.25], [0.5], [1e-5], [1e-4]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("RMSE (nats)", "")
    low, high = axes.get_xlim()
    assert low < 1e-5 < 0.5 < high


def test_a_map_has_ascending_numbers_and_names_in_order(page, axes_of):
    axes = axes_of(page)["Gap"]
    values = axes.collections[0].get_array()
    assert values.filled(99).tolist() == [[-2, 1], [0.5, 99]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "8"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["zipf", "flat"]
    assert axes.yaxis_inverted()
    assert sorted(text.get_text() for text in axes.texts) == ["-2.00", "0.50", "1.00"]
    assert axes.collections[0].norm.vcenter == 0


def test_legends_stand_below_and_cover_nothing(page):
    figure = draw_simulation(load_page(page))
    figure.draw_without_rendering()
    panels = [axes.get_window_extent() for axes in figure.axes if axes.axison]
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert [[text.get_text() for text in legend.get_texts()] for legend in legends] == [
        ["None", "with | bar"],
        ["target", "identity", "theory"],
    ]
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(panel) for panel in panels)
        assert box.x1 <= figure.bbox.x1
    plt.close(figure)


def test_forty_bars_and_forty_lines_are_legible(tmp_path, axes_of):
    names = [f"a method of many words {i}" for i in range(40)]
    bars = pd.DataFrame({"method": names, "rmse": np.linspace(-1, 1, 40), "low": -1.0, "high": 1.0})
    lines = pd.DataFrame([{"method": name, "x": x, "y": i + x} for i, name in enumerate(names) for x in (0, 1)])
    panels = [
        Panel("Bars", "bars", "method", "rmse", "bar", low="low", high="high"),
        *(Panel(title, "lines", "x", "y", by="method") for title in ("one", "two", "three")),
    ]
    axes = axes_of(write(tmp_path / "made", {"bars": bars, "lines": lines}, panels))
    labels = [text.get_window_extent() for text in axes["Bars"].get_yticklabels()]
    assert len(labels) == 40
    assert not any(a.overlaps(b) for a, b in pairwise(labels))
    assert min(box.x0 for box in labels) >= 0
    figure = axes["Bars"].figure
    legend = next(a.get_legend() for a in figure.axes if a.get_legend())
    assert len(legend.get_texts()) == 40
    assert legend.get_window_extent().y0 >= 0
    assert legend.get_window_extent().y1 <= min(a.get_window_extent().y0 for a in axes.values())
    # Three panels are stacked beside the long one, at their own height.
    heights = [axes[name].get_window_extent().height for name in ("one", "two", "three")]
    assert max(heights) < axes["Bars"].get_window_extent().height / 2
    assert len({(line.get_color(), line.get_marker()) for line in axes["one"].get_lines()}) == 36


def test_looks_differ():
    few, many = looks_for(list("abcdef")), looks_for([str(i) for i in range(36)])
    assert len({look.color for look in few}) == 6
    assert len({(look.color, str(look.dash)) for look in many}) == 36
    scale = looks_for([8, 1, 2, 4, 64, 32, 16])
    assert len({look.color for look in scale}) == 7
    assert {look.dash for look in scale} == {"-"}


def test_grouped_bars_names_on_x_and_one_panel(tmp_path, axes_of):
    frame = pd.DataFrame({"a": ["p", "p", "q"], "rule": ["u", "v", "u"], "y": [1.0, 2.0, -3.0]})
    axes = axes_of(write(tmp_path / "bars", {"t": frame}, [Panel("Bars", "t", "a", "y", "bar", by="rule")]))["Bars"]
    assert [bar.get_width() for bar in axes.patches] == [1, 2, -3]
    colors = [bar.get_facecolor() for bar in axes.patches]
    assert colors[0] == colors[2] != colors[1]
    axes = axes_of(write(tmp_path / "names", {"t": frame}, [Panel("Names", "t", "a", "y", by="rule")]))["Names"]
    assert lines_of(axes) == [([0, 1], [1, -3]), ([0], [2])]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["p", "q"]


@pytest.mark.parametrize("kind", ["line", "bar", "points", "map"])
@pytest.mark.parametrize("values", [[NAN, NAN], [], [-1.0, -2.0], [0.0, 0.0], [1.0, NAN]])
def test_whatever_the_numbers_are_a_picture_comes_out(tmp_path, axes_of, kind, values):
    frame = pd.DataFrame({"a": [1, 2][: len(values)], "b": ["p", "q"][: len(values)], "y": values, "z": values})
    panel = Panel(
        "T", "t", "a", "b" if kind == "map" else "y", kind, value="y", low="z", high="z", x_log=True, y_log=True
    )
    axes = axes_of(write(tmp_path / "made", {"t": frame}, [panel]))["T"]
    nothing = not np.isfinite(values).any()
    assert nothing == ([text.get_text() for text in axes.texts] == ["nothing to draw"])


def test_a_page_without_panels_or_findings_is_drawn(tmp_path, command):
    folder = write(tmp_path / "made", {}, [], findings=[])
    assert command("figures", "build", "simulation", folder, f"--output={tmp_path}").code == 0
    assert (tmp_path / "simulation_made.png").read_bytes().startswith(PNG)


def test_parquet_gives_the_same_picture(page, command, tmp_path):
    pytest.importorskip("pyarrow")
    other = write(tmp_path / "parquet", suffix=".parquet")
    for folder, place in ((page, "one"), (other, "two"), (page, "three")):
        built = command("figures", "build", "simulation", folder, f"--output={tmp_path / place}")
        assert built.code == 0, built.said
    one, two, three = ((tmp_path / place / "simulation_made.png").read_bytes() for place in ("one", "two", "three"))
    assert one == two == three


def test_the_panels_are_those_that_experiments_write():
    assert [(f.name, f.default) for f in fields(Read)] == [(f.name, f.default) for f in fields(Panel)]


def without_page(folder):
    (folder / "page.json").unlink()
    return ["page.json", f"entrocraft simulate made --output {folder} --resume"]


def no_results(folder):
    for name in ("page.json", "config.yaml"):
        (folder / name).unlink()
    return ["page.json", "Check the path", f"entrocraft simulate EXPERIMENT --output {folder}"]


def half_a_page(folder):
    (folder / "page.json").write_text('{"experiment": "made", "panels"')
    return [str(folder / "page.json"), f"entrocraft simulate made --output {folder} --overwrite"]


def page_of_something_else(folder):
    (folder / "page.json").write_text('{"title": "made"}')
    return [str(folder / "page.json"), "KeyError: 'panels'"]


def without_a_table(folder):
    (folder / "grid.csv").unlink()
    return [str(folder / "grid.csv"), "--overwrite"]


def empty_table(folder):
    (folder / "grid.csv").write_text("")
    return [str(folder / "grid.csv"), "No columns"]


def without_a_column(folder):
    (folder / "curves.csv").write_text((folder / "curves.csv").read_text().replace("target", "goal"))
    return ["'Entropy'", str(folder / "curves.csv"), "'target'", "goal"]


def twice_in_a_map(folder):
    text = (folder / "grid.csv").read_text()
    (folder / "grid.csv").write_text(text + text.splitlines()[1] + "\n")
    return ["'Gap'", "one row for each arms and family"]


SPOILT = [
    *(without_page, no_results, half_a_page, page_of_something_else),
    *(without_a_table, empty_table, without_a_column, twice_in_a_map),
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_cannot_be_drawn_is_refused_by_name(page, command, tmp_path, spoil):
    words = spoil(page)
    built = command("figures", "build", "simulation", page, f"--output={tmp_path / 'out'}")
    assert built.code == 1
    assert "Traceback" not in built.said
    assert [word for word in words if word not in built.said] == [], built.said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("panel", "words"),
    [
        (Panel("P", "curved", "step", "entropy"), ["'P'", "curved", "curves"]),
        (Panel("P", "grid", "arms", "family", "map"), ["'P'", "value"]),
        (Read("P", "grid", "arms", "gap", "pie"), ["'P'", "pie", "points"]),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_named(tmp_path, panel, words):
    folder = write(tmp_path / "made", panels=[panel])
    with pytest.raises(ValueError, match=str(folder / "page.json")) as refused:
        load_page(folder)
    assert [word for word in words if word not in str(refused.value)] == []


def test_wrong_calls(page, command, tmp_path):
    two = command("figures", "build", "simulation", page, page, f"--output={tmp_path / 'out'}")
    assert two.code == 1
    for word in ("one directory", "got 2", "entrocraft simulate"):
        assert word in two.said
    assert command("figures", "build", "simulation", tmp_path / "none", f"--output={tmp_path / 'out'}").code == 1
    assert not (tmp_path / "out").exists()
    help_text = " ".join(command("figures", "--help").printed.split())
    assert "simulation: one directory of `entrocraft simulate`" in help_text
