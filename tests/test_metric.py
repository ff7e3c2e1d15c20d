"""The competition's score: each known case of the official code, and a brute-force count."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_cryoet.copick import USER_ID, write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import ParticleScore, Score, evaluate, read_truth
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.sections import header
from kaggle_cryoet.report.tables import score_table
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.submission import read_submission, write_submission

RIBOSOME = 3
BETA_AMYLASE = 1


def picks(label: int, *position_zyx: tuple[float, float, float]) -> Picks:
    return Picks(position_zyx_angstrom=np.array(position_zyx), label=np.full(len(position_zyx), label))


def every_type(rng: np.random.Generator, count: int = 4) -> Picks:
    """Particles of each type, too far from each other for any to be taken for another."""
    place = rng.permutation(len(PARTICLES) * count)
    return Picks(
        position_zyx_angstrom=np.stack([place * 400.0, place * 3.0, 5000 - place * 7.0], axis=1),
        label=np.repeat(np.arange(len(PARTICLES)), count),
    )


def repeated(original: Picks, times: int) -> Picks:
    return original.select(np.tile(np.arange(len(original)), times))


def ribosomes(score: Score) -> ParticleScore:
    return score.particles["ribosome"]


def brute_force(predicted: dict[str, Picks], truth: dict[str, Picks]) -> Score:
    """The score by comparing each prediction with each particle, one pair after the other."""
    rows = {}
    for label, particle in enumerate(PARTICLES):
        n_predicted = n_true = hit = 0
        for run in truth:
            own = truth[run].position_zyx_angstrom[truth[run].label == label]
            guesses = np.empty((0, 3))
            if run in predicted:
                guesses = predicted[run].position_zyx_angstrom[predicted[run].label == label]
            n_predicted += len(guesses)
            n_true += len(own)
            for centre in own:
                hit += any(np.sum((guess - centre) ** 2) <= (particle.radius_angstrom / 2) ** 2 for guess in guesses)
        fp, miss = n_predicted - hit, n_true - hit
        rows[particle.name] = ParticleScore(
            predicted=n_predicted,
            true=n_true,
            hit=hit,
            miss=miss,
            fp=fp,
            precision=hit / (hit + fp) if hit + fp > 0 else 0.0,
            recall=hit / (hit + miss) if hit + miss > 0 else 0.0,
            fbeta=17 * hit / (17 * hit + 16 * miss + fp) if hit else 0.0,  # by counts, without precision and recall
            weight=particle.weight,
        )
    return Score(score=sum(row.weight * row.fbeta for row in rows.values()) / 7, particles=rows)


lattice_picks = st.lists(
    st.tuples(st.integers(0, 5), st.tuples(*[st.integers(0, 12)] * 3)), max_size=25
).map(  # steps of 15 Å, of which many distances are exactly half a radius
    lambda rows: Picks(
        position_zyx_angstrom=np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 3) * 15,
        label=np.array([row[0] for row in rows], dtype=np.int64),
    )
)
some_runs = st.dictionaries(st.sampled_from(["TS_1", "TS_2", "TS_3"]), lattice_picks)


@settings(max_examples=150, deadline=None)
@given(predicted=some_runs, truth=some_runs.filter(bool))
def test_the_score_is_that_of_a_brute_force_count(predicted: dict[str, Picks], truth: dict[str, Picks]) -> None:
    score, expected = evaluate(predicted, truth), brute_force(predicted, truth)
    assert list(score.particles) == [particle.name for particle in PARTICLES]
    for name, row in score.particles.items():
        other = expected.particles[name]
        assert (row.predicted, row.true, row.hit, row.miss, row.fp) == (
            other.predicted,
            other.true,
            other.hit,
            other.miss,
            other.fp,
        )
        assert (row.precision, row.recall, row.weight) == (other.precision, other.recall, other.weight)
        assert row.fbeta == pytest.approx(other.fbeta, rel=1e-12)
    assert score.score == pytest.approx(expected.score, rel=1e-12)


def test_the_truth_itself_scores_one() -> None:
    truth = {run: every_type(np.random.default_rng(seed)) for seed, run in enumerate(["TS_1", "TS_2"])}
    assert evaluate(truth, truth).score == 1.0


def test_an_empty_submission_scores_zero() -> None:
    truth = {"TS_1": every_type(np.random.default_rng(0))}
    assert evaluate({}, truth).score == 0.0
    assert evaluate({"TS_1": truth["TS_1"].select(np.empty(0, dtype=np.int64))}, truth).score == 0.0


@pytest.mark.parametrize(("false_per_true", "score"), [(1, 0.944), (2, 0.895), (4, 0.810), (8, 0.680)])
def test_false_positives_at_full_recall_cost_as_much_as_is_known(false_per_true: int, score: float) -> None:
    truth = every_type(np.random.default_rng(0))
    assert evaluate({"TS_1": repeated(truth, 1 + false_per_true)}, {"TS_1": truth}).score == pytest.approx(
        score, abs=5e-4
    )


def test_three_predictions_near_one_particle_are_one_hit_and_two_false_positives() -> None:
    row = ribosomes(
        evaluate({"TS_1": picks(RIBOSOME, (0, 0, 0), (9, 0, 0), (0, 9, 9))}, {"TS_1": picks(RIBOSOME, (0, 0, 0))})
    )
    assert (row.hit, row.fp, row.miss) == (1, 2, 0)


def test_one_prediction_near_two_particles_is_two_hits_and_minus_one_false_positive() -> None:
    row = ribosomes(evaluate({"TS_1": picks(RIBOSOME, (0, 0, 0))}, {"TS_1": picks(RIBOSOME, (0, 0, 60), (0, 0, -60))}))
    assert (row.predicted, row.hit, row.fp, row.miss) == (1, 2, -1, 0)
    assert (row.precision, row.recall) == (2.0, 1.0)
    assert row.fbeta == pytest.approx(17 * 2 / 33)


@pytest.mark.parametrize("label", range(len(PARTICLES)))
def test_a_distance_of_exactly_half_the_radius_is_a_hit(label: int) -> None:
    name, reach = PARTICLES[label].name, PARTICLES[label].radius_angstrom / 2
    truth = {"TS_1": picks(label, (100, 200, 300))}
    assert evaluate({"TS_1": picks(label, (100, 200, 300 + reach))}, truth).particles[name].hit == 1
    assert evaluate({"TS_1": picks(label, (100, 200, 300 + reach + 1e-6))}, truth).particles[name].hit == 0


def test_predictions_of_a_type_absent_from_an_experiment_are_false_positives() -> None:
    truth = {"TS_1": picks(RIBOSOME, (0, 0, 0)), "TS_2": picks(0, (0, 0, 0))}
    row = ribosomes(evaluate({"TS_2": picks(RIBOSOME, (0, 0, 0), (900, 0, 0))}, truth))
    assert (row.predicted, row.true, row.hit, row.fp, row.miss) == (2, 1, 0, 2, 1)


def test_beta_amylase_costs_nothing() -> None:
    truth = {"TS_1": every_type(np.random.default_rng(0))}
    without = truth["TS_1"].select(truth["TS_1"].label != BETA_AMYLASE)
    assert evaluate({"TS_1": without}, truth).score == 1.0
    amylase = np.flatnonzero(truth["TS_1"].label == BETA_AMYLASE)
    many = truth["TS_1"].select(np.concatenate([np.arange(len(truth["TS_1"])), np.repeat(amylase, 50)]))
    score = evaluate({"TS_1": many}, truth)
    assert score.score == 1.0
    assert score.particles["beta-amylase"].fp == 200


def test_a_type_without_particles_and_predictions_scores_zero() -> None:
    truth = {"TS_1": picks(RIBOSOME, (0, 0, 0))}
    score = evaluate(truth, truth)
    assert score.particles["thyroglobulin"].fbeta == 0.0
    assert score.score == pytest.approx(1 / 7)


def test_counts_are_summed_over_experiments_before_they_are_divided() -> None:
    truth = {"TS_1": picks(RIBOSOME, (0, 0, 0)), "TS_2": picks(RIBOSOME, (0, 0, 0), (900, 0, 0), (0, 900, 0))}
    row = ribosomes(evaluate({"TS_1": picks(RIBOSOME, (0, 0, 0))}, truth))
    assert row.recall == 0.25  # and not the mean of 1 and 0


def test_a_particle_is_not_hit_from_another_experiment_or_by_another_type() -> None:
    truth = {"TS_1": picks(RIBOSOME, (0, 0, 0)), "TS_2": picks(0, (500, 0, 0))}
    predicted = {"TS_2": picks(RIBOSOME, (0, 0, 0)), "TS_1": picks(0, (0, 0, 0))}
    assert evaluate(predicted, truth).score == 0.0


@pytest.mark.parametrize(("factor", "told"), [(0.1, True), (10.0, True), (1.5, False)])
def test_where_nothing_is_hit_another_unit_is_suspected(
    factor: float, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    position = np.random.default_rng(0).uniform(2000, 6000, (8, 3))
    true, found = (picks(RIBOSOME, *(scale * position)) for scale in (1.0, factor))
    assert evaluate({"TS_1": found}, {"TS_1": true}).score == 0.0
    assert ("is either in voxels?" in caplog.text) is told


def test_predictions_of_experiments_that_are_not_scored_are_dropped_with_a_note(
    caplog: pytest.LogCaptureFixture,
) -> None:
    truth = {"TS_1": every_type(np.random.default_rng(0))}
    predicted = {**truth, "TS_9": picks(RIBOSOME, (0, 0, 0), (1, 1, 1))}
    assert evaluate(predicted, truth).score == 1.0
    assert "2 predictions of experiments that are not scored are dropped" in caplog.text


def test_an_unknown_type_raises_in_a_scored_experiment_and_is_dropped_in_another(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("id,experiment,particle_type,x,y,z\n0,TS_1,ribosome,1,2,3\n1,TS_9,proteasome,1,2,3\n")
    assert len(read_submission(path, experiments=["TS_1"])["TS_1"]) == 1
    with pytest.raises(InputError, match="unknown particle 'proteasome'"):
        read_submission(path, experiments=["TS_1", "TS_9"])


def test_a_position_that_is_not_a_number_raises(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("id,experiment,particle_type,x,y,z\n0,TS_1,beta-amylase,1,2,nan\n")
    with pytest.raises(InputError, match="not finite"):
        read_submission(path, experiments=["TS_1"])


def test_a_truth_without_experiments_is_refused() -> None:
    with pytest.raises(InputError, match="holds no experiment"):
        evaluate({"TS_1": picks(RIBOSOME, (0, 0, 0))}, {})


def test_the_truth_is_the_same_from_a_csv_and_from_each_form_of_directory(tmp_path: Path) -> None:
    truth = {run: every_type(np.random.default_rng(seed)) for seed, run in enumerate(["TS_1", "TS_2"])}
    for run, own in truth.items():
        write_copick(tmp_path / "data/overlay/ExperimentRuns" / run / "Picks", own, run)
        (tmp_path / "data/static/ExperimentRuns" / run / "VoxelSpacing10.000/denoised.zarr").mkdir(parents=True)
    write_submission(tmp_path / "truth.csv", truth)
    for form in ("truth.csv", "data", "data/static", "data/overlay", "data/overlay/ExperimentRuns"):
        read = read_truth(tmp_path / form)
        assert list(read) == ["TS_1", "TS_2"]
        assert evaluate(read, truth).score == evaluate(truth, read).score == 1.0
        for run, own in truth.items():
            assert sorted(read[run].position_zyx_angstrom.tolist()) == sorted(own.position_zyx_angstrom.tolist())


def test_a_truth_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: does not exist"):
        read_truth(tmp_path / "absent")


def test_the_json_has_its_fixed_form() -> None:
    score = evaluate({}, {"TS_1": picks(RIBOSOME, (0, 0, 0))})
    content = json.loads(json.dumps(score.to_json_dict()))
    assert list(content) == ["score", "particles"]
    assert list(content["particles"]) == [particle.name for particle in PARTICLES]
    assert content["particles"]["ribosome"] == {
        "predicted": 0,
        "true": 1,
        "hit": 0,
        "miss": 1,
        "fp": 0,
        "precision": 0.0,
        "recall": 0.0,
        "fbeta": 0.0,
        "weight": 1.0,
    }
    assert list(content["particles"]["ribosome"])[-1] == "weight"


def test_the_table_is_aligned_and_ends_with_the_score() -> None:
    truth = {"TS_1": every_type(np.random.default_rng(0))}
    lines = evaluate({"TS_1": repeated(truth["TS_1"], 2)}, truth).format_table().splitlines()
    assert lines[0].split() == ["particle", "P", "T", "Hit", "Miss", "FP", "Precision", "Recall", "F-beta4", "Weight"]
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[3].split() == ["beta-galactosidase", "8", "4", "4", "0", "4", "0.5000", "1.0000", "0.9444", "2"]
    assert lines[-1] == "score 0.944444"


def test_a_table_without_some_types_says_what_those_that_are_there_score() -> None:
    picks = every_type(np.random.default_rng(0))
    truth = {"TS_1": picks.select(np.isin(picks.label, (2, 3)))}  # beta-galactosidase, which weighs 2, and ribosome
    found = {"TS_1": truth["TS_1"].select(truth["TS_1"].label == 2)}
    lines = evaluate(found, truth).format_table().splitlines()
    assert lines[-2:] == ["of the types that are there 0.666667", f"score {2 / 7:.6f}"]


def test_what_types_that_are_there_score_is_told_on_the_page() -> None:
    picks = every_type(np.random.default_rng(0))
    truth = {"TS_1": picks.select(np.isin(picks.label, (2, 3)))}
    score = evaluate({"TS_1": truth["TS_1"].select(truth["TS_1"].label == 2)}, truth)
    assert score.of_types_present == pytest.approx(2 / 3)
    for page in (score_table(score), header([], score, {})):
        assert "of the types that are there" in page
        assert "0.6667" in page or "0.666667" in page
    whole = evaluate({"TS_1": picks}, {"TS_1": picks.select(picks.label != BETA_AMYLASE)})  # which has no weight
    assert whole.of_types_present is None
    assert "of the types that are there" not in score_table(whole) + header([], whole, {})


def test_experiments_of_which_nothing_is_predicted_are_told(caplog: pytest.LogCaptureFixture) -> None:
    truth = {run: every_type(np.random.default_rng(0)) for run in ("TS_1", "TS_2", "TS_3")}
    truth["TS_4"] = truth["TS_1"].select(np.array([], dtype=int))
    evaluate({"TS_2": truth["TS_2"]}, truth)
    assert "of 2 of 3 experiments with particles, as TS_1, nothing is predicted" in caplog.text
    caplog.clear()
    evaluate({run: truth[run] for run in ("TS_1", "TS_2", "TS_3")}, truth)
    evaluate({}, truth)
    assert not caplog.records


def test_what_this_program_found_is_not_taken_for_the_truth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    true, found = every_type(np.random.default_rng(0)), every_type(np.random.default_rng(1), count=2)
    overlay = tmp_path / "train" / "overlay" / "ExperimentRuns" / "TS_1" / "Picks"
    write_copick(overlay, true, "TS_1")
    write_copick(tmp_path / "train" / "ExperimentRuns" / "TS_1" / "Picks", found, "TS_1", user_id=USER_ID)
    assert len(read_truth(tmp_path / "train")["TS_1"]) == len(true)
    write_copick(overlay, found, "TS_1", user_id=USER_ID)
    assert len(read_truth(tmp_path / "train")["TS_1"]) == len(true)
    assert "6 files of kaggle-cryoet itself are left out" in caplog.text
    write_copick(tmp_path / "found" / "ExperimentRuns" / "TS_1" / "Picks", found, "TS_1", user_id=USER_ID)
    assert len(read_truth(tmp_path / "found")["TS_1"]) == len(found)  # of which there is nothing else


def test_a_run_with_nothing_but_what_was_found_is_not_labelled(tmp_path: Path) -> None:
    run = tmp_path / "data" / "ExperimentRuns" / "TS_1"
    (run / "VoxelSpacing10.000").mkdir(parents=True)
    (run / "VoxelSpacing10.000" / "denoised.mrc").touch()
    write_copick(run / "Picks", every_type(np.random.default_rng(0)), "TS_1", user_id=USER_ID)
    assert [one.picks_directory for one in find_runs(tmp_path / "data")] == [None]
    with pytest.raises(InputError, match="holds no picks"):
        read_truth(tmp_path / "data")
    write_copick(run / "Picks", every_type(np.random.default_rng(0)), "TS_1", user_id="ada")
    assert [one.picks_directory for one in find_runs(tmp_path / "data")] == [run / "Picks"]
