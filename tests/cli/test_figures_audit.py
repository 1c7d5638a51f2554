"""The audit's figure and tables, from a small audit written here."""

import csv
import fnmatch
import math
import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from entropy_theory.audit import TABLES
from figures.fig_audit import draw_audit
from figures.load import load_audit, near_entropy, released_fig2a

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
FAMILIES = {"zipf": 0.0, "gaussian": 0.01}  # what sets a family's numbers apart
VOCABULARIES = {20: 0.5, 2000: 1.0}  # and a vocabulary's
ENTROPIES = {0.26: 1.0, 0.9: 0.7, 3.8: 0.4}  # and an entropy's: near 0.3, between, near 4


def sign_rule_rows():
    for family, more in FAMILIES.items():
        for vocabulary, size in VOCABULARIES.items():
            for entropy, scale in ENTROPIES.items():
                yield {
                    "family": family, "vocabulary": vocabulary, "parameter": 1.0, "policies": 8, "entropy": entropy,
                    "holds": 0.91 * size * scale + more, "holds_se": more, "claimed": 0.81 * size * scale + more,
                    "claimed_se": 0.02, "holds_top": 1.0, "holds_up": 0.9, "holds_down": 0.8, "weighted": 0.5,
                    "weighted_sharp": 0.71 * scale + more, "weighted_confident": 0.11 * scale + more,
                    "drift": 0.05 * size * (scale - 0.6) + more, "drift_se": more / 10, "drift_negative": 0.25,
                }  # fmt: skip


def confidence_rows():
    for family in FAMILIES:
        for vocabulary in VOCABULARIES:
            for entropy in ENTROPIES:
                common = {"family": family, "vocabulary": vocabulary, "entropy": entropy}
                yield {**common, "above": 0.0, "to": 0.001, "mass": 0.25, "holds": 0.0}
                yield {**common, "above": 0.001, "to": 0.5, "mass": 0.0, "holds": math.nan}
                yield {**common, "above": 0.5, "to": 1.0, "mass": 0.75, "holds": 0.875}


def one_sided_rows():
    for policy, accuracy, entropy in (("first", 0.25, 2.5), ("second, learnt", 0.9375, 0.4)):
        for size in (2, 8):
            odds = (1 - accuracy) / accuracy
            ratios = {"all rollouts": 1.0, "kept rollouts": odds**0.5 * size, "GRPO, all rollouts": odds}
            for denominator, ratio in ratios.items():
                yield {
                    "policy": policy, "entropy": entropy, "accuracy": accuracy, "group_size": size,
                    "denominator": denominator, "positives": -2e-5 * ratio, "negatives": -2e-5, "ratio": ratio,
                }  # fmt: skip


def tie_rows():
    for policy, sign in (("first", 1), ("second, learnt", -1)):
        for size in (2, 8):
            for rate in (0.02, 0.1):
                predicted = sign * rate**2 / size
                yield {
                    "policy": policy, "entropy": 2.5, "group_size": size, "learning_rate": rate, "groups": 100,
                    "positives": 1e-5, "negatives": 2e-5, "difference": 0.9 * predicted,
                    "difference_se": 0.01 * abs(predicted), "z": 90.0, "second_order": predicted,
                    "z_second_order": -1.0,
                }  # fmt: skip


def baseline_rows():
    for family, more in FAMILIES.items():
        for vocabulary in VOCABULARIES:
            for entropy in ENTROPIES:
                yield {
                    "family": family, "vocabulary": vocabulary, "policies": 8, "entropy": entropy,
                    "log_prob": -entropy, "baseline": 12.0, "median_baseline": -3 - entropy - more, "holds": 0.9 + more,
                    "placeholder": -vocabulary / 8 - entropy, "placeholder_weight": vocabulary * 1e-4,
                    "placeholder_holds": 0.99,
                }  # fmt: skip


def responses_rows():
    for family, more in FAMILIES.items():
        for vocabulary, size in VOCABULARIES.items():
            for entropy, scale in ENTROPIES.items():
                for tokens in (8, 64):
                    yield {
                        "family": family, "vocabulary": vocabulary, "entropy": entropy, "tokens": tokens,
                        "responses": 100, "token_condition": 0.9, "condition": 0.95 * size * scale + more,
                        "rule": 0.51, "agree": 0.6 - tokens / 1000 + more,
                    }  # fmt: skip


def reproduction_rows():
    for quantity, z in (("entropy", 0.5), ("entropy", -2.4), ("entropy", 1.75), ("drift_negative", 0.0)):
        yield {
            "vocabulary": 2000, "alpha": 0.02, "policies": 10, "quantity": quantity, "reference": 4.254,
            "found": 4.254 + z / 100, "standard_error": 0.01, "z": z,
        }  # fmt: skip


ROWS = {
    "reproduction": reproduction_rows,
    "sign_rule": sign_rule_rows,
    "confidence": confidence_rows,
    "one_sided": one_sided_rows,
    "tie": tie_rows,
    "baseline": baseline_rows,
    "responses": responses_rows,
}


def write(folder, name, rows):
    """Through the audit's own dataclasses, so that a column of another name fails here."""
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(TABLES[name])])
        writer.writeheader()
        writer.writerows(asdict(TABLES[name](**row)) for row in rows)


@pytest.fixture
def audit(tmp_path):
    folder = tmp_path / "audit"
    folder.mkdir()
    for name, rows in ROWS.items():
        write(folder, name, rows())
    return folder


def tables_of(path):
    """By title: header and rows, cells split at unescaped bars."""
    found = {}
    for part in path.read_text().split("## ")[1:]:
        title, _, *lines = part.strip().splitlines()
        header, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert set("".join(rule)) == {"-"}
        assert all(len(row) == len(header) for row in rows)
        found[title] = header, {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}
    return found


def test_an_audit_makes_a_picture_and_its_key_numbers(audit, command, tmp_path):
    built = command("figures", "build", "audit", audit, f"--output={tmp_path / 'new' / 'place'}")
    assert built.code == 0, built.said
    picture = (tmp_path / "new" / "place" / "audit.png").read_bytes()
    assert picture.startswith(PNG)
    assert 20_000 < len(picture) < 400_000
    assert str(tmp_path / "new" / "place" / "audit.png") in built.printed
    titles, tables = zip(*tables_of(tmp_path / "new" / "place" / "audit.md").items(), strict=True)
    for title in titles:
        assert title in built.printed
    reproduced, sign, ratio, tie, baseline, responses = (rows for _, rows in tables)
    assert reproduced["mean entropy (nats)"] == {
        "numbers": "3",
        "largest distance (s.e.)": "-2.4",
        "there": "V = 2 000, alpha = 0.02",
        "found": "4.2300",
        "reference": "4.254",
    }
    assert reproduced["share of policies with D < 0"]["numbers"] == "1"
    assert list(sign) == ["zipf, H 0.26", "gaussian, H 0.26", "zipf, H 3.80", "gaussian, H 3.80"]
    assert list(sign["zipf, H 0.26"].values()) == ["0.910", "0.810 ± 0.020", "0.500", "+0.0200"]
    assert list(sign["gaussian, H 3.80"].values()) == [
        "0.374 ± 0.010",
        "0.334 ± 0.020",
        "0.500",
        "+0.0000 ± 0.0010",
    ]
    assert ratio == {
        "first: H 2.50, P(right) 0.25": {
            "all rollouts": "1",
            "kept rollouts": "13.86",
            "GRPO, all rollouts": "3",
        },
        "second, learnt: H 0.40, P(right) 0.9375": {
            "all rollouts": "1",
            "kept rollouts": "2.066",
            "GRPO, all rollouts": "0.06667",
        },
    }
    assert [list(row.values()) for row in tie.values()] == [
        ["-2.0", "+1125.00 ± 12.50", "+1250.00"],
        ["-2.0", "-1125.00 ± 12.50", "-1250.00"],
    ]
    assert list(baseline["gaussian, H 0.26"].values()) == ["-0.26", "-3.27", "91%", "-250.3", "0.2", "99%"]
    assert responses == {
        "zipf, H 0.26": {"8 tokens (100 responses)": "95% / 51% / 59%", "64 tokens (100 responses)": "95% / 51% / 54%"},
        "gaussian, H 0.26": {
            "8 tokens (100 responses)": "96% / 51% / 60%",
            "64 tokens (100 responses)": "96% / 51% / 55%",
        },
    }
    for number, words in {
        1: ("Sign rule", "vocabulary 2 000", "mass"),
        2: ("positives-only / negatives-only", "G = 8"),
        3: ("eta = 0.1", "G = 8", "1e-6 nats"),
        4: ("vocabulary 2 000", "H near 0.3", "nats/token"),
        5: ("vocabulary 2 000", "H near 0.3"),
    }.items():
        for word in words:
            assert word in titles[number]


def test_every_panel_draws_its_columns(audit):
    figure = draw_audit(load_audit(audit))
    panels = {axes.get_title(loc="left")[:1]: axes for axes in figure.axes}
    assert set("abcdefghi") <= set(panels)

    def drawn(panel, *values):
        return any(list(line.get_ydata()) == pytest.approx(values) for line in panels[panel].get_lines())

    assert drawn("a", 92, 64.7, 37.4)
    assert drawn("a", 45.5, 31.85, 18.2)  # the smaller vocabulary
    assert drawn("d", 91 + 1, 0.7 * 91 + 1, 0.4 * 91 + 1)
    assert drawn("d", 72, 50.7, 29.4)
    assert drawn("d", 12, 8.7, 5.4)
    assert drawn("d", 50, 50, 50)
    assert drawn("e", 0.03, 0.015, 0)
    assert drawn("f", 1, 1)
    assert drawn("f", 3, 1 / 15)
    assert drawn("f", 8 * 3**0.5, 8 / 15**0.5)
    assert drawn("g", 0.0004 / 8, 0.01 / 8)
    assert drawn("g", 0.9 * 0.0004 / 2, 0.9 * 0.01 / 2)
    assert drawn("g", 4e-7, 2e-6)
    assert drawn("h", -0.26, -0.26)
    assert drawn("h", -3.27, -3.27)
    assert drawn("h", -2.76, -250.26)
    assert drawn("h", -1315.552, -742.517)
    assert drawn("h", -0.135414, -0.006568)
    assert drawn("i", 96, 96)
    assert drawn("i", 60.2, 54.6)
    points = [tuple(point) for group in panels["b"].collections for point in group.get_offsets()]
    assert any(point == pytest.approx((82, 92)) for point in points)
    assert len(points) == 12
    (mesh,) = panels["c"].collections
    assert mesh.get_array().filled(-1).tolist() == [[0, -1, 87.5]] * 3
    plt.close(figure)


def test_the_same_audit_gives_the_same_bytes(audit, command, tmp_path):
    pictures = []
    for place in ("one", "two"):
        assert command("figures", "build", "audit", audit, f"--output={tmp_path / place}").code == 0
        pictures.append((tmp_path / place / "audit.png").read_bytes())
    assert pictures[0] == pictures[1]
    first, *others = sign_rule_rows()
    write(audit, "sign_rule", [{**first, "holds": 0.1}, *others])
    assert command("figures", "build", "audit", audit, f"--output={tmp_path / 'three'}").code == 0
    assert (tmp_path / "three" / "audit.png").read_bytes() != pictures[0]


def test_the_least_that_an_audit_can_hold_is_drawn(audit, command, tmp_path):
    for name, rows in ROWS.items():
        write(audit, name, [next(iter(rows()))])
    built = command("figures", "build", "audit", audit, f"--output={tmp_path}")
    assert built.code == 0, built.said
    assert (tmp_path / "audit.png").read_bytes().startswith(PNG)
    # No group of 8: nothing to say of it.
    assert len(tables_of(tmp_path / "audit.md")) == 4


@pytest.mark.parametrize("name", ROWS)
def test_a_missing_table_is_named(audit, command, tmp_path, name):
    (audit / f"{name}.csv").unlink()
    built = command("figures", "build", "audit", audit, f"--output={tmp_path / 'out'}")
    assert built.code == 1
    for word in (str(audit), f"{name}.csv", f"entrocraft theory audit --output {audit}"):
        assert word in built.said
    assert not (tmp_path / "out").exists()


def without_rows(path):
    path.write_text(path.read_text().splitlines()[0] + "\n")
    return "without rows"


def without_a_column(path):
    path.write_text(path.read_text().replace("difference_se", "difference_error"))
    return "without the columns difference_se"


def emptied(path):
    path.write_text("")
    return "No columns"


def ragged(path):
    path.write_text(path.read_text() + "1,2" * 100 + "\n")
    return "Expected 12 fields"


def binary(path):
    path.write_bytes(b"\xff\xfe\x00" * 20)
    return "utf-8"


@pytest.mark.parametrize("spoil", [without_rows, without_a_column, emptied, ragged, binary])
def test_a_spoilt_table_is_named(audit, command, tmp_path, spoil):
    what = spoil(audit / "tie.csv")
    built = command("figures", "build", "audit", audit, f"--output={tmp_path / 'out'}")
    assert built.code == 1
    for word in (what, str(audit / "tie.csv"), f"entrocraft theory audit --output {audit} --overwrite"):
        assert word in built.said
    assert not (tmp_path / "out").exists()


def test_wrong_calls(audit, command, tmp_path):
    two = command("figures", "build", "audit", audit, audit, f"--output={tmp_path / 'out'}")
    assert two.code == 1
    for word in ("one directory", "got 2", "theory audit"):
        assert word in two.said
    assert not (tmp_path / "out").exists()
    assert command("figures", "build", "audit").code == 2
    assert command("figures", "build", "audits", audit).code == 2
    assert command("figures", "build", "quickstart", audit).code == 1
    assert command("figures", "build", "audit", tmp_path / "none").code == 1


def test_help_says_what_each_figure_reads(command):
    said = " ".join(command("figures", "--help").printed.split())
    assert "audit: one directory of `entrocraft theory audit`" in said
    assert "quickstart: directories of finished runs" in said


def test_near_entropy_takes_each_family_where_it_is_nearest(audit):
    rows = load_audit(audit).responses
    rows.loc[(rows.family == "zipf") & (rows.entropy == 0.26), "entropy"] = 0.01
    chosen = near_entropy(rows, 0.6)
    assert set(zip(chosen.family, chosen.entropy, strict=True)) == {("zipf", 0.9), ("gaussian", 0.9)}
    chosen = near_entropy(rows, 0.4)
    assert set(zip(chosen.family, chosen.entropy, strict=True)) == {("zipf", 0.01), ("gaussian", 0.26)}
    assert set(chosen.tokens) == {8, 64}
    assert set(chosen.vocabulary) == {20, 2000}


def test_released_numbers_are_there_and_their_source_with_them():
    released = released_fig2a()
    assert set(released.method) == {"grpo", "nsr", "raft++"}
    base = released[released.step == 0]
    assert len(base) == 3
    assert set(base.log_likelihood_per_token) == {-0.074033}
    assert set(base.placeholder_baseline_per_token) == {-849.453}
    sources = (ROOT / "figures" / "data" / "SOURCES.md").read_text()
    for word in ("released_fig2a.csv", "2604.26326", "github.com/lblaoke/entrocraft", "1e-4", *released.columns):
        assert word in sources


def test_the_wheel_takes_the_data_with_it():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["figures"]
    files = [path.relative_to(ROOT / "figures").as_posix() for path in (ROOT / "figures" / "data").iterdir()]
    assert files
    assert all(any(fnmatch.fnmatch(file, pattern) for pattern in patterns) for file in files)
