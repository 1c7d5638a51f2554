"""Numbers, conditions and verdicts of the ledger of claims, on tables small enough to check by hand."""

import pytest

from figures.estimates import t_reach
from figures.ledger.claims import claim_of
from figures.ledger.conditions import condition_of, follows
from figures.ledger.measures import MEASURES, tables_of
from figures.ledger.number import MISSING, Number, as_text
from figures.ledger.page import measured
from figures.ledger.selection import select
from figures.study import Data

CURVE = (
    "part,arm,seed,step,entropy,log_likelihood_positive,log_likelihood_negative,share_below,"
    "effective_group_size_below\n"
)


@pytest.fixture
def data(tmp_path):
    """Two arms, the one with two seeds and the other with one; one simulation."""
    files = {
        "controllers/runs.csv": "part,arm,seed,entropy_end\n"
        "constant,nsr,0,0.8\nconstant,nsr,1,0.9\nconstant,grpo,1,0.4\n",
        "controllers/curves.csv": CURVE
        + "constant,nsr,0,0,0.7,-1,-2,0,\nconstant,nsr,0,5,0.8,-2,-1,0.5,6\nconstant,nsr,0,10,0.8,-1,-2,1,3\n"
        + "constant,nsr,1,0,0.7,-1,-2,0,\n",
        "controllers/comparison.csv": "part,arm,setting,quantity,comparison,value,low,high,seeds\n"
        "constant,nsr,t1,pass@1,same_samples,-0.2,-0.3,-0.1,2\nconstant,nsr,training,reward,same_samples,-0.2,,,1\n",
        "long/runs.csv": "part,arm,seed,entropy_end\nlinear,nsr,0,0.3\n",
        "long/evaluations.csv": "part,arm,seed,step,setting,samples,counts\n"
        "linear,nsr,0,100,paper,4,1 1\nlinear,nsr,0,400,paper,8,8 2\nlinear,nsr,0,400,t1,8,0 0\n"
        "linear,nsr,1,100,paper,4,4 0\nlinear,nsr,1,400,paper,4,2 0\nlinear,nsr,2,400,paper,4,2 0\n",
        "long/decision.csv": "question,setting,quantity,comparison,value,low,high,seeds_low,seeds_high,verdict,seeds\n"
        "pays,paper,pass@1,best,0.03,0.02,0.04,0.01,0.05,above,5\n"
        "pays,paper,plateau,factor,,0.8,,,,,5\n"
        "later,paper,pass@1,best,0.03,0.02,0.04,,,incomplete,1\n",
        "simulations/some.csv": "cell,kind,value,error,weight,other\n"
        "a,x,1,0.1,1,0.5\nb,x,3,0.1,3,0.5\nb,y,4,0.1,0,0.5\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    return Data(tmp_path)


def value(data, **options):
    return select(data, table="simulations/some", column="value", **options).value


def test_selections(data):
    assert value(data, where={"cell": "a"}) == 1
    assert value(data, where={"kind": "x"}, statistic="mean") == 2
    assert value(data, where={"kind": "x"}, statistic="mean", weight="weight") == 10 / 4
    assert value(data, statistic="max", less="other") == 3.5
    assert value(data, statistic="max", at_most={"value": 3}) == 3
    assert value(data, statistic="min", at_least={"value": 2}) == 3
    assert value(data, where={"cell": "b", "kind": "y"}, minus={"kind": "x"}) == 1
    assert value(data, where={"cell": "b", "kind": "x"}, over={"cell": "a"}) == pytest.approx(200)
    found = select(data, table="simulations/some", column="value", where={"cell": "a"}, error="error")
    assert (found.low, found.high) == pytest.approx((1 - 0.196, 1 + 0.196))
    with pytest.raises(ValueError, match="one row; got 2"):
        value(data, where={"kind": "x"})


def test_what_has_no_rows_is_not_measured(data):
    assert value(data, where={"cell": "c"}) is None
    assert value(data, where={"cell": "a"}, minus={"cell": "c"}) is None
    assert select(data, table="nowhere", column="value") == MISSING
    for use, options in {
        "run": {"column": "entropy_end"},
        "entropy_change": {},
        "likelier": {},
        "filtered_change": {"side": "below"},
        "progress": {"setting": "paper", "start": 100, "end": 300},
        "roughness": {"column": "entropy"},
        "comparison": {"setting": "t1", "quantity": "pass@1", "comparison": "same_samples"},
    }.items():
        assert MEASURES[use].make(data, part="linear", arm="nsr", **options) == MISSING, use
    assert as_text(MISSING, ".2f") == "not yet measured"


def test_answers_have_the_ends_of_both_intervals_once_the_question_is_whole(data):
    def of(question, quantity="pass@1", comparison="best"):
        wanted = {"question": question, "quantity": quantity, "comparison": comparison, "setting": "paper"}
        return MEASURES["decision"].make(data, **wanted)

    found = of("pays")
    assert (found.value, found.low, found.high, found.over, found.seeds) == (0.03, 0.01, 0.05, "5 seeds", 5)
    assert of("pays", "plateau", "factor") == Number(None, 0.8, None, "5 seeds", 5)
    assert of("pays", "plateau", "arm") == MISSING
    assert of("later") == MISSING


def test_numbers_name_the_tables_of_their_study():
    assert tables_of("run", {"column": "rmse"}) == ("controllers/runs.csv",)
    assert tables_of("run", {"column": "rmse", "study": "long"}) == ("long/runs.csv",)
    assert tables_of("decision", {}) == ("long/decision.csv",)


def test_numbers_of_training_are_over_seeds(data):
    def of(use, arm="nsr", **options):
        return MEASURES[use].make(data, part="constant", arm=arm, **options)

    long = MEASURES["run"].make(data, part="linear", arm="nsr", column="entropy_end", study="long")
    assert (long.value, long.seeds) == (0.3, 1)
    end = of("run", column="entropy_end")
    assert (end.value, end.low, end.high, end.seeds) == pytest.approx((0.85, 0.8, 0.9, 2))
    assert end.over == "seeds 0, 1"
    paired = of("run", column="entropy_end", minus="grpo")
    assert (paired.value, paired.over) == (pytest.approx(0.5), "seed 1")
    assert of("entropy_change").value == pytest.approx((0.1 + 0.2) / 2)
    assert of("entropy_change", "grpo") == MISSING
    assert of("likelier").value == pytest.approx((2 / 3 + 1) / 2)
    # Of 1.5 rows below, the later 0.75 have 3; the earlier ones 6 on 0.5 and 3 on 0.25, a mean of 5.
    assert of("filtered_change", side="below").value == pytest.approx(3 - 5)
    # Of seed 0 alone: from row to row by 0.1 and by 0.
    rough = of("roughness", column="entropy", study="controllers")
    assert (rough.value, rough.over) == (pytest.approx(0.05 / 2**0.5), "seed 0")
    assert of("roughness", column="entropy", study="controllers", start=5).value == 0
    assert of("roughness", column="entropy", study="controllers", end=5) == MISSING
    rise = MEASURES["progress"].make(data, part="linear", arm="nsr", setting="paper", start=100, end=400)
    # Means of at most three up to the step: 7/16 less 1/4, and 3/8 less 1/2; seed 2 has no evaluation at the start.
    half = t_reach([3 / 16, -1 / 8])
    assert (rise.value, rise.high - rise.low, rise.over) == (1 / 32, pytest.approx(2 * half), "2 seeds")
    found = of("comparison", setting="t1", quantity="pass@1", comparison="same_samples")
    assert as_text(found, ".2f") == "-0.20 [-0.30, -0.10] (2 seeds)"
    found = of("comparison", setting="training", quantity="reward", comparison="same_samples")
    assert as_text(found, ".2f") == "-0.20 (1 seed)"


def test_violations_are_those_of_the_condition_without_the_conclusion(data):
    """Of 10 responses: 4 both, 3 the condition alone, 1 the conclusion alone, 2 neither."""
    (data.folder / "audit").mkdir()
    (data.folder / "audit/responses.csv").write_text(
        "family,vocabulary,entropy,tokens,condition,rule,agree\nf,9,0.3,8,0.7,0.5,0.6\nf,9,2.0,8,1,1,1\nf,5,0.3,8,1,1,1\n"
    )
    assert MEASURES["violations"].make(data, tokens=8, near=0.4).value == pytest.approx(0.3)
    assert MEASURES["violations"].make(data, tokens=9, near=0.4) == MISSING


def test_the_verdict_follows_from_the_numbers():
    numbers = {"x": Number(3.0, 2.0, 4.0), "y": Number(1.0), "few": Number(1.0, seeds=1), "none": MISSING}

    def verdict(*texts):
        return follows([condition_of(text) for text in texts], numbers)

    assert verdict("x > 2.5", "x.low > y") == "holds"
    assert verdict("x > 2.5", "x.low > 4.5") == "in part"
    assert verdict("x.low > 4.5", "x.high < -1") == "does not"
    assert verdict("x > 2.5", "x.low > 2.5") == "open"  # the interval has both
    assert verdict("x > 2.5", "x.high < 2.5") == "open"
    assert verdict("x > 2.5", "none > 0") == "not yet"
    assert verdict("y.low > 0") == "not yet"
    numbers |= {"below": Number(1.5, 1.0, 2.5), "apart": Number(1.0, 0.5, 1.5), "late": Number(None, 5.0, None)}
    assert verdict("below.low > x.high") == "open"  # the two intervals have both
    assert verdict("apart.low > x.high") == "does not"
    assert verdict("late.low < 4") == "does not"
    assert verdict("late.high < 9") == "open"  # beyond what can be judged
    assert verdict("x > 2.5", "few > 0") == "not yet"
    assert verdict("x.low > 2.5", "few > 0") == "not yet"
    # Some hold and some do not, whatever comes of the others.
    assert verdict("x > 2.5", "x > 4", "few > 0", "none > 0", "x.low > 2.5") == "in part"
    for wrong in ("x", "x = 3", "x > 2 and y > 3"):
        with pytest.raises(ValueError, match="must read"):
            condition_of(wrong)


ROW = {
    "id": "X1",
    "claim": "c",
    "where": ["Figure 1"],
    "why": "w",
    "verdict": "does not",
    "numbers": {
        "x": {"label": "l", "use": "run", "part": "constant", "arm": "nsr", "column": "entropy_end"},
    },
    "holds_if": ["x.low > 0.5"],
}


def test_a_verdict_that_contradicts_the_numbers_is_noticed(data):
    assert measured(claim_of(ROW), data).disagreement == "holds"
    assert measured(claim_of({**ROW, "verdict": "holds"}), data).disagreement == ""
    assert measured(claim_of({**ROW, "holds_if": []}), data).disagreement == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "maybe"}, "must have a verdict of"),
        ({"holds_if": ["z > 1"]}, "its own numbers; got one on 'z'"),
        ({"colour": "red"}, "'colour' missing or unknown"),
    ],
)
def test_wrong_claims_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        claim_of({**ROW, **change})
