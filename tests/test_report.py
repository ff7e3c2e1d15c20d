"""The report: who is a hit, what is drawn where, and what the page says."""

import itertools
import subprocess
import sys
import time
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.counts import count_run
from kaggle_cryoet.report.curves import ThresholdCurve, threshold_curves
from kaggle_cryoet.report.markup import Markup, tag
from kaggle_cryoet.report.matching import confusion_matrix, match
from kaggle_cryoet.report.page import ReportWriter
from kaggle_cryoet.report.plots import (
    draw_confusion_matrix,
    draw_counts,
    draw_precision_recall,
    draw_threshold_curves,
)
from kaggle_cryoet.report.slice_picture import FOOTER, HEADER, WIDTH, Layout, cut_radius, draw_slice, to_gray
from kaggle_cryoet.report.slices import choose_slices, draw_slices
from kaggle_cryoet.report.style import DARK, LIGHT, fit_text
from kaggle_cryoet.tomogram import RunLocation, Tomogram

APO, AMYLASE, GALACTOSIDASE, RIBOSOME, THYROGLOBULIN, VIRUS = range(6)


def picks(*rows, score=()):
    """Picks of rows (label, z, y, x)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Picks(position_zyx_angstrom=table[:, 1:], label=table[:, 0].astype(np.int64), score=np.array(score))


def random_picks(rng, count, edge=500.0):
    return Picks(
        position_zyx_angstrom=rng.random((count, 3)) * [edge / 2, edge, 2 * edge],
        label=rng.integers(0, 6, count),
        score=rng.random(count),
    )


def tomogram(shape=(20, 30, 40), name="TS_1", voxel_angstrom=10.0):
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Tomogram(data=data, voxel_angstrom=voxel_angstrom, name=name)


# --- hits ---


def test_a_hit_is_as_far_as_half_the_radius_and_of_the_same_type():
    truth = picks((APO, 0, 0, 0), (APO, 500, 0, 0), (APO, 900, 0, 0))
    found = picks((APO, 0, 30, 0), (APO, 500, 30.001, 0), (RIBOSOME, 900, 0, 0))
    matching = match(found, truth)
    assert matching.found_is_hit.tolist() == [True, False, False]
    assert matching.truth_is_hit.tolist() == [True, False, False]


def test_of_two_found_near_one_true_particle_the_nearer_is_the_hit():
    matching = match(picks((APO, 0, 0, 20), (APO, 0, 0, 10)), picks((APO, 0, 0, 0)))
    assert matching.found_is_hit.tolist() == [False, True]
    assert matching.truth_is_hit.tolist() == [True]


def test_a_found_particle_that_hits_two_is_one_hit_and_both_are_hit():
    matching = match(picks((APO, 0, 0, 20)), picks((APO, 0, 0, 0), (APO, 0, 0, 40)))
    assert matching.found_is_hit.tolist() == [True]
    assert matching.truth_is_hit.tolist() == [True, True]


def test_pairs_are_made_so_that_no_hit_is_wasted():
    # the first found is nearest to both true particles, the second reaches only one of them
    matching = match(picks((APO, 0, 0, 10), (APO, 0, 0, -25)), picks((APO, 0, 0, 0), (APO, 0, 0, 35)))
    assert matching.found_is_hit.tolist() == [True, True]


def test_without_picks_on_either_side_nothing_is_a_hit():
    some, none = picks((APO, 0, 0, 0), (VIRUS, 9, 9, 9)), picks()
    assert match(none, some).truth_is_hit.tolist() == [False, False]
    assert match(some, none).found_is_hit.tolist() == [False, False]
    assert len(match(none, none).found_is_hit) == 0


@pytest.mark.parametrize("seed", range(5))
def test_hits_are_those_that_the_score_counts(seed):
    rng = np.random.default_rng(seed)
    found, truth = random_picks(rng, 900), random_picks(rng, 150)
    matching = match(found, truth)
    for label, row in enumerate(evaluate({"a": found}, {"a": truth}).particles.values()):
        assert np.count_nonzero(matching.truth_is_hit[truth.label == label]) == row.hit
        assert np.count_nonzero(~matching.found_is_hit[found.label == label]) >= row.fp


@pytest.mark.parametrize("seed", range(5))
def test_there_are_as_many_pairs_as_brute_force_finds(seed):
    rng = np.random.default_rng(seed)
    found, truth = rng.random((5, 3)) * 60, rng.random((5, 3)) * 60
    near = np.linalg.norm(found[:, None] - truth, axis=2) <= 30
    most = max(near[range(5), order].sum() for order in itertools.permutations(range(5)))
    matching = match(
        Picks(position_zyx_angstrom=found, label=np.zeros(5)), Picks(position_zyx_angstrom=truth, label=np.zeros(5))
    )
    assert matching.found_is_hit.sum() == most


# --- which type is taken for which ---


def test_the_confusion_matrix_has_the_values_found_by_hand():
    truth = picks(
        (APO, 0, 0, 0),  # found
        (APO, 0, 0, 500),  # missed
        (RIBOSOME, 0, 500, 0),  # found as thyroglobulin
        (THYROGLOBULIN, 0, 500, 500),  # found as apo-ferritin, 60 Å off: within half of the larger radius
        (THYROGLOBULIN, 0, 500, 1000),  # apo-ferritin 66 Å off, too far
        (VIRUS, 500, 0, 0),  # found, and a ribosome is found at the very centre
    )
    found = picks(
        (APO, 0, 0, 29),
        (THYROGLOBULIN, 0, 500, 75),
        (APO, 60, 500, 500),
        (APO, 0, 566, 1000),
        (RIBOSOME, 500, 0, 0),
        (VIRUS, 500, 0, 60),
    )
    expected = np.zeros((7, 7), dtype=int)
    expected[APO, APO] = expected[APO, 6] = 1
    expected[RIBOSOME, THYROGLOBULIN] = 1
    expected[THYROGLOBULIN, APO] = expected[THYROGLOBULIN, 6] = 1
    expected[VIRUS, VIRUS] = 1
    expected[6, APO] = expected[6, RIBOSOME] = 1
    matrix = confusion_matrix(found, truth)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, expected)


def test_the_confusion_matrix_counts_every_particle_once():
    rng = np.random.default_rng(1)
    found, truth = random_picks(rng, 600), random_picks(rng, 200)
    matrix = confusion_matrix(found, truth)
    assert matrix[6, 6] == 0
    np.testing.assert_array_equal(matrix.sum(axis=1)[:6], np.bincount(truth.label, minlength=6))
    np.testing.assert_array_equal(matrix.sum(axis=0)[:6], np.bincount(found.label, minlength=6))
    hits = match(found, truth).found_is_hit
    np.testing.assert_array_equal(np.diag(matrix)[:6], np.bincount(found.label[hits], minlength=6))


def test_the_confusion_matrix_of_nothing_is_zero():
    assert not confusion_matrix(picks(), picks()).any()


def test_the_picture_of_the_confusion_matrix_shows_its_numbers():
    matrix = np.arange(49).reshape(7, 7)
    figure = draw_confusion_matrix(matrix, LIGHT)
    said = {tuple(text.get_position()): text.get_text() for text in figure.axes[0].texts}
    assert said[(2, 5)] == str(matrix[5, 2])  # x is the column
    assert (6, 6) not in said
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [*PARTICLE_NAMES, "nothing there"]


# --- curves ---


def test_a_threshold_curve_has_the_values_found_by_hand():
    truth = {"a": picks((APO, 0, 0, 0), (APO, 0, 0, 500), (VIRUS, 0, 0, 0))}
    candidates = {"a": picks((APO, 0, 0, 0), (APO, 0, 0, 250), (APO, 0, 0, 500), score=[0.9, 0.5, 0.1])}
    curves = threshold_curves(candidates, truth, points=3)
    assert list(curves) == [APO]
    curve = curves[APO]
    # ranks 1, sqrt(3) rounded and 3
    np.testing.assert_allclose(curve.threshold, [0.9, 0.5, 0.1])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(curve.fbeta, [17 * 0.5 / 16.5, 17 * 0.25 / 8.5, 17 * (2 / 3) / (16 * 2 / 3 + 1)])


def test_a_threshold_curve_ends_at_the_score_of_all_candidates():
    rng = np.random.default_rng(2)
    candidates = {run: random_picks(rng, 400) for run in "ab"}
    truth = {run: random_picks(rng, 100) for run in "abc"}
    curves = threshold_curves({**candidates, "not in the truth": random_picks(rng, 50)}, truth)
    for label, row in enumerate(evaluate(candidates, truth).particles.values()):
        assert curves[label].recall[-1] == row.recall
        assert curves[label].fbeta[-1] == row.fbeta
        assert (np.diff(curves[label].threshold) <= 0).all()
        assert (np.diff(curves[label].recall) >= 0).all()


def test_equal_scores_have_no_curve():
    same = {"a": picks((APO, 0, 0, 0), (APO, 9, 9, 9))}
    assert threshold_curves(same, same) == {}


def test_curves_are_drawn_of_the_types_that_have_one():
    rng = np.random.default_rng(3)
    truth, candidates = {"a": random_picks(rng, 90)}, {"a": random_picks(rng, 500)}
    curves = {label: curve for label, curve in threshold_curves(candidates, truth).items() if label != VIRUS}
    figure = draw_threshold_curves(curves, DARK)
    assert [len(axes.lines) for axes in figure.axes] == [3, 3, 3, 3, 3, 0]
    np.testing.assert_array_equal(figure.axes[RIBOSOME].lines[2].get_ydata(), curves[RIBOSOME].fbeta)
    score = evaluate(candidates, truth)
    marks = draw_precision_recall(curves, score, DARK).axes[0].lines
    last = score.particles["virus-like-particle"]
    assert (marks[-1].get_xdata()[0], marks[-1].get_ydata()[0]) == (last.recall, last.precision)


def test_bars_are_as_high_as_the_counts():
    truth = picks((APO, 0, 0, 0), (APO, 0, 0, 500), (VIRUS, 0, 0, 900))
    found = picks((APO, 0, 0, 0), (APO, 99, 0, 0), (APO, 199, 0, 0))
    runs = [count_run("a", found, truth, None), count_run("b", found, None, None)]
    found_bars, hit_bars, true_lines = draw_counts(runs, LIGHT).axes[APO].collections
    assert [segment[1].tolist() for segment in found_bars.get_segments()] == [[1, 3], [2, 3]]
    assert [segment[1].tolist() for segment in hit_bars.get_segments()] == [[1, 1], [2, 3]]
    assert true_lines.get_segments()[0][0].tolist() == [0.55, 2]


# --- slices ---


def test_a_sphere_is_cut_in_a_circle_of_pythagoras():
    radius = cut_radius(picks((APO, 100, 0, 0), (APO, 136, 0, 0), (APO, 160, 0, 0), (RIBOSOME, 10, 0, 0)), 100.0)
    np.testing.assert_allclose(radius, [60, 48, np.nan, 120])


def test_the_slice_with_most_particles_is_taken_from_each_slab():
    volume = tomogram(shape=(60, 8, 9))
    # apo-ferritin is cut by 11 slices, z - 5 to z + 5; slabs are of 20, with a middle of 9.5, 29.5 and 49.5
    some = picks((APO, 80, 0, 0), (APO, 150, 0, 0), (APO, 550, 0, 0))
    assert choose_slices(volume, some, 3) == [10, 20, 50]
    assert choose_slices(volume, picks(), 3) == [9, 29, 49]
    assert choose_slices(tomogram(shape=(2, 8, 9)), some, 4) == [0, 1]


def test_gray_runs_from_one_percentile_to_the_other():
    density = np.arange(1001, dtype=np.float32).reshape(7, 143)
    gray = to_gray(density).ravel()
    assert gray.dtype == np.uint8
    assert gray[[0, 5, 500, 995, 1000]].tolist() == [0, 0, 128, 255, 255]
    assert (to_gray(np.zeros((3, 4), dtype=np.float32)) == 128).all()


def test_one_extreme_voxel_does_not_hide_the_others():
    density = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    density[3, 4] = -1e6
    assert to_gray(density).std() > 40


def test_voxels_are_squares_of_whole_pixels_where_there_is_room():
    assert Layout(rows=630, columns=630).pixels_per_voxel == 2
    assert Layout(rows=30, columns=40).pixels_per_voxel == 31
    assert Layout(rows=2520, columns=100).pixels_per_voxel == 0.5


def rendered(figure):
    """RGB pixels `(row, column, 3)`."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def is_colour(pixels, colour):
    """Where pixels are of the colour `#rrggbb`, up to the smoothing of edges."""
    return np.abs(pixels - [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).max(axis=-1) < 40


def around(pixels, layout, position, radius_angstrom, voxel_angstrom=10.0):
    """`(720, 3)` pixels on the circle around a position."""
    x, y = layout.to_pixels(np.array([position], dtype=float), voxel_angstrom)[0]
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    radius = radius_angstrom / voxel_angstrom * layout.pixels_per_voxel
    # a pixel's middle is half a pixel from its corner
    row, column = (
        np.floor(middle + radius * wave).astype(int) for middle, wave in ((y, np.sin(angle)), (x, np.cos(angle)))
    )
    return pixels[row, column]


def test_circles_and_marks_are_drawn_where_the_particles_are():
    volume = tomogram(shape=(20, 30, 40))
    hit, missed, false = (APO, 100, 80, 100), (APO, 136, 90, 300), (GALACTOSIDASE, 100, 200, 200)
    found, truth = picks(hit, false), picks(hit, missed)
    pixels = rendered(draw_slice(volume, 10, found, truth, match(found, truth)))
    layout = Layout(rows=30, columns=40)
    assert pixels.shape == (HEADER + 30 * 31 + FOOTER, WIDTH, 3)

    solid = is_colour(around(pixels, layout, hit[1:], 60), DARK.particles[APO])
    dashed = is_colour(around(pixels, layout, missed[1:], 48), DARK.particles[APO])  # cut 36 Å from its centre
    assert solid.mean() > 0.97
    assert 0.4 < dashed.mean() < 0.8
    assert is_colour(around(pixels, layout, false[1:], 90), DARK.particles[GALACTOSIDASE]).mean() > 0.97
    assert not is_colour(around(pixels, layout, missed[1:], 60), DARK.particles[APO]).any()

    # the middles: a dot of the type's colour, a plus, a cross
    assert is_colour(around(pixels, layout, hit[1:], 0), DARK.particles[APO]).all()
    assert is_colour(around(pixels, layout, missed[1:], 0), DARK.text).all()
    assert is_colour(around(pixels, layout, false[1:], 0), DARK.wrong).all()


def test_voxels_keep_their_place_and_their_gray():
    volume = tomogram(shape=(20, 30, 40))
    pixels = rendered(draw_slice(volume, 7, picks(), None, None))
    layout = Layout(rows=30, columns=40)
    gray = to_gray(volume.data[7])
    for y, x in ((0, 0), (0, 39), (17, 5), (12, 31)):
        column, row = layout.to_pixels(np.array([[70.0, 10.0 * y, 10.0 * x]]), 10.0)[0].astype(int)
        assert pixels[row, column].tolist() == [gray[y, x]] * 3


def test_circles_are_cut_off_at_the_edge_of_the_slice():
    volume = tomogram(shape=(20, 30, 40))
    pixels = rendered(draw_slice(volume, 10, picks((RIBOSOME, 100, 0, 200)), None, None))
    assert not is_colour(pixels[:HEADER], DARK.particles[RIBOSOME]).any()
    assert is_colour(pixels[HEADER:-FOOTER], DARK.particles[RIBOSOME]).any()


def test_without_truth_everything_found_is_a_circle_with_a_dot():
    volume = Tomogram(data=np.zeros((20, 30, 40)), voxel_angstrom=10.0, name="grey")
    found = picks((APO, 100, 80, 100))
    pixels = rendered(draw_slice(volume, 10, found, None, None))
    layout = Layout(rows=30, columns=40)
    assert is_colour(around(pixels, layout, (100, 80, 100), 60), DARK.particles[APO]).mean() > 0.97
    assert is_colour(around(pixels, layout, (100, 80, 100), 0), DARK.particles[APO]).all()
    slice_above_the_scale_bar = pixels[HEADER : HEADER + 800]
    assert not is_colour(slice_above_the_scale_bar, DARK.text).any()  # no plus


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 1), (3, 400, 20), (2, 1300, 1400), (1, 1, 3000), (1, 3000, 1)])
def test_slices_of_any_shape_are_drawn(shape, tmp_path):
    rng = np.random.default_rng(0)
    paths = draw_slices(tomogram(shape=shape), random_picks(rng, 20), random_picks(rng, 9), output=tmp_path, count=1)
    assert len(paths) == 1
    assert paths[0].read_bytes().startswith(b"\x89PNG")


def test_a_full_sized_slice_takes_less_than_a_second(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(4, 630, 630)).astype(np.float32)
    volume = Tomogram(data=data, voxel_angstrom=10.012444, name="TS_5_4")
    found, truth = (random_picks(rng, 100, edge=3000.0) for _ in range(2))
    for each in (found, truth):
        each.position_zyx_angstrom[:, 0] = 20.0
    seconds = []
    for repeat in range(3):
        started = time.process_time()
        draw_slices(volume, found, truth, output=tmp_path / str(repeat), count=1)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        draw_slices(tomogram(), picks(), None, output=tmp_path / "file", count=1)


def test_names_in_pictures_are_short_and_of_common_letters():
    assert fit_text("TS_5_4", 12) == "TS_5_4"
    assert fit_text("2024-05-12_lam7_ts_009", 12) == "202…7_ts_009"
    assert fit_text("Zelle 細胞\n2", 12) == "Zelle ???2"


@pytest.mark.parametrize("factor", [0.25, 1.35, 2.0])
def test_slices_bear_the_numbers_of_the_file_where_voxels_are_resampled(factor, tmp_path):
    depth = round(48 / factor)
    stored = tomogram(shape=(depth, depth + 5, depth + 9), voxel_angstrom=factor * CZII_VOXEL_ANGSTROM)
    writer = ReportWriter(tmp_path, slices=48)
    writer.add_tomogram(stored, picks())
    page = writer.finish().read_text(encoding="utf8")
    names = sorted(path.stem for path in (tmp_path / "images").rglob("z*.png"))
    kept = int((depth - 1) * factor) + 1  # of which each slice is drawn, or 48 of them
    assert set(names) <= {f"z{round(z / factor):03d}" for z in range(kept)}
    assert len(names) == len(set(names)) > 0.9 * min(kept, 48, depth)
    assert f"Slice {names[0]} of TS_1" in page


def test_a_tomogram_that_cannot_be_read_again_still_counts(tmp_path, caplog):
    found, truth = picks((RIBOSOME, 100, 100, 100)), picks((RIBOSOME, 100, 100, 100), (RIBOSOME, 100, 500, 100))
    gone = RunLocation(name="TS_9", tomogram_path=tmp_path / "gone.mrc", picks_directory=None)
    writer = ReportWriter(tmp_path / "report")
    writer.add_tomogram(gone, found, truth)
    text = writer.finish(evaluate({"TS_9": found}, {"TS_9": truth})).read_text(encoding="utf8")
    assert "hits of 2 true particles" in text
    assert "No pictures: " in text
    assert "the report is without pictures of TS_9" in caplog.text


def test_curves_count_what_is_in_tomograms_that_failed_as_the_score_does(tmp_path, monkeypatch, caplog):
    drawn = []
    monkeypatch.setattr("kaggle_cryoet.report.page.draw_precision_recall", lambda *given: drawn.append(given) or figure)
    figure = draw_confusion_matrix(np.zeros((7, 7), dtype=np.int64), LIGHT)
    rows = [(RIBOSOME, 100, 100 + 400 * i, 100) for i in range(4)]
    found, truth = picks(*rows, score=(0.9, 0.8, 0.7, 0.6)), picks(*rows)
    writer = ReportWriter(tmp_path, most_drawn=0)
    writer.add_tomogram(tomogram(), found, truth)
    writer.add_missed("TS_2", truth)
    score = evaluate({"TS_1": found}, {"TS_1": truth, "TS_2": truth})
    caplog.clear()
    writer.finish(score, {"TS_2": "broken"})
    assert caplog.text == ""
    curves, shown, _ = drawn[0]
    assert shown is score
    assert curves[RIBOSOME].recall[-1] == score.particles["ribosome"].recall == 0.5


def test_a_threshold_in_a_plot_keeps_what_it_says(tmp_path):
    curve = ThresholdCurve(
        threshold=np.array([0.99959, 0.2]),
        precision=np.ones(2),
        recall=np.array([1.0, 0.5]),
        fbeta=np.array([1.0, 0.5]),
    )
    figure = draw_threshold_curves({APO: curve}, LIGHT)
    assert any(axes.get_title(loc="right") == "best 1.000 at 0.9995" for axes in figure.axes)


def test_a_pick_that_hits_two_takes_nothing_from_the_false_positives_of_others(tmp_path):
    truth = picks((APO, 100, 100, 100), (APO, 100, 140, 100))
    writer = ReportWriter(tmp_path, slices=1)
    writer.add_tomogram(tomogram(), picks((APO, 100, 120, 100), (APO, 100, 250, 100)), truth)
    writer.add_tomogram(tomogram(name="TS_2"), picks((RIBOSOME, 100, 200, 100)), picks((APO, 100, 100, 100)))
    text = writer.finish().read_text(encoding="utf8")
    assert "2 hits of 2 true, 1 false positives" in text
    rows = text.split('id="tomograms"')[1].split("</table>")[0].split("<tr>")
    wrong = [[cell.count("+1") + 2 * cell.count("+2") for cell in row.split("<td>")[1:]] for row in rows[2:]]
    assert wrong == [[1, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 1], [1, 0, 0, 1, 0, 0, 2]]


def test_a_path_that_is_no_text_does_not_cost_the_page(tmp_path):
    writer = ReportWriter(tmp_path, most_drawn=0)
    writer.add_tomogram(tomogram(), picks((APO, 1, 2, 3)))
    page = writer.finish(command="kaggle-cryoet predict lat\udce9in")
    assert "lat\\udce9in" in page.read_text(encoding="utf8")


def test_pictures_leave_pyplot_alone(tmp_path):
    program = (
        "import sys, pathlib, numpy as np\n"
        "from kaggle_cryoet.picks import Picks\n"
        "from kaggle_cryoet.tomogram import Tomogram\n"
        "from kaggle_cryoet.report.page import ReportWriter\n"
        "assert 'matplotlib' not in sys.modules\n"
        "writer = ReportWriter(pathlib.Path(sys.argv[1]), slices=1)\n"
        "found = Picks(position_zyx_angstrom=np.zeros((1, 3)), label=np.zeros(1))\n"
        "data = np.arange(24.).reshape(2, 3, 4)\n"
        "writer.add_tomogram(Tomogram(data=data, voxel_angstrom=10.0, name='a'), found, found)\n"
        "writer.finish()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(tmp_path)], check=True)


# --- the page ---


class Page(HTMLParser):
    """Text, rows of tables and links of a page; fails on tags that are not closed in turn."""

    def __init__(self, path):
        super().__init__()
        self.open, self.rows, self.links, self.text = [], [], [], ""
        self.html = path.read_text(encoding="utf8")
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.links += [value for key, value in attributes if key in ("src", "srcset", "href")]
        if name not in ("img", "meta", "source"):
            self.open.append(name)
        if name == "tr":
            self.rows.append([])
        if name in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


COMMAND = "kaggle-cryoet dry-run 'a & b' --output <out>"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Folder, page, score and found picks of two labelled tomograms and one that failed."""
    directory = tmp_path_factory.mktemp("report") / "deep" / "er"
    rng = np.random.default_rng(5)
    found = {name: random_picks(rng, 300) for name in ("TS_1", "TS_2")}
    truth = {name: random_picks(rng, 80) for name in found}
    writer = ReportWriter(directory, slices=2)
    for seconds, name in enumerate(found, start=7):
        writer.add_tomogram(tomogram(name=name), found[name], truth[name], seconds=seconds)
    score = evaluate(found, truth)
    path = writer.finish(score, {"TS_3": "no chunk 0/0"}, {"weights": "unet3d"}, command=COMMAND)
    return directory, Page(path), score, found


def test_the_page_has_the_numbers_of_the_score(labelled):
    _, page, score, _ = labelled
    for name, row in score.particles.items():
        expected = [name, row.predicted, row.true, row.hit, row.miss, row.fp]
        expected += [f"{share:.4f}" for share in (row.precision, row.recall, row.fbeta)] + [f"{row.weight:g}"]
        assert [str(value) for value in expected] in page.rows
    assert ["score", f"{score.score:.6f}", ""] in page.rows
    assert ["TS_3", "no chunk 0/0"] in page.rows
    assert "counts as missed in the score and its curves, but nowhere else on this page" in page.text
    assert ["weights", "unet3d"] in page.rows


def test_the_page_counts_each_tomogram(labelled):
    """What stands for no particle of its own counts as false, as in the pictures; a pick that hits two does not."""
    _, page, score, found = labelled
    rng = np.random.default_rng(5)  # as the fixture draws
    _, _, *truth = (random_picks(rng, count) for count in (300, 300, 80, 80))
    false = [~match(found[name], one).found_is_hit for name, one in zip(found, truth, strict=True)]
    row = next(row for row in page.rows if row[0] == "TS_2")
    assert row[-1] == "8.0"
    n_hit = int(row[-2].split(" / ")[0])
    assert row[-2] == f"{n_hit} / 80+{false[1].sum()}"
    assert 0 <= false[1].sum() - (300 - n_hit) < 5
    total = next(row for row in page.rows if row[0] == "all")
    ribosome = score.particles["ribosome"]
    n_false = sum((mask & (found[name].label == RIBOSOME)).sum() for name, mask in zip(found, false, strict=True))
    assert total[1 + RIBOSOME] == f"{ribosome.hit} / {ribosome.true}+{n_false}"


def test_the_page_shows_what_lies_beside_it_and_nothing_else(labelled):
    directory, page, *_ = labelled
    assert "://" not in page.html
    assert "<script" not in page.html
    shown = {unquote(link) for link in page.links}
    assert shown == {path.relative_to(directory).as_posix() for path in directory.rglob("images/**/*.*")}
    plots = ("confusion", "counts", "precision-recall", "thresholds")
    assert {f"images/{plot}-{theme}.svg" for plot in plots for theme in ("light", "dark")} < shown
    assert sorted(path.name for path in directory.iterdir()) == ["images", "index.html"]


def test_the_page_says_how_to_make_it_again(labelled):
    _, page, *_ = labelled
    assert COMMAND in page.text
    assert "kaggle-cryoet 0." in page.text


def test_what_comes_from_outside_is_escaped(tmp_path):
    evil = '<script>alert("1")</script> & $\\frac{'
    writer = ReportWriter(tmp_path, slices=1)
    for name in (evil, "../../" + evil):
        writer.add_tomogram(tomogram(name=name), picks((APO, 0, 0, 0)), None)
    page = Page(writer.finish(None, {evil: evil}, {evil: evil}, command=evil))
    assert "<script" not in page.html
    assert page.rows.count([evil, evil]) == 2
    assert evil in page.text
    folders = sorted(path.name for path in (tmp_path / "images").iterdir() if path.is_dir())
    assert [folder[:4] for folder in folders] == ["001_", "002_"]
    assert {unquote(link) for link in page.links} == {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("images/**/*.*")
    }


def test_markup_is_escaped_once():
    assert tag("p", "a < b", Markup("<br>"), title='"') == '<p title="&quot;">a &lt; b<br></p>'
    assert tag("img", class_="x", alt=None) == '<img class="x">'


def test_a_prediction_without_truth_shows_counts_only(tmp_path):
    writer = ReportWriter(tmp_path, slices=1)
    writer.add_tomogram(tomogram(), picks((APO, 0, 0, 0), (RIBOSOME, 50, 50, 50), (RIBOSOME, 99, 99, 99)))
    page = Page(writer.finish(None, {}, {}))
    assert ["TS_1", "1", "0", "0", "2", "0", "0", "3"] in page.rows
    assert "score" not in page.text.lower()
    assert "missed" not in page.text
    assert [path.suffix for path in (tmp_path / "images").rglob("*.*")] == [".png"]


@pytest.mark.parametrize("truth", [None, picks(), picks((APO, 0, 0, 0))])
def test_a_page_without_any_find_is_written(tmp_path, truth):
    writer = ReportWriter(tmp_path, slices=1)
    writer.add_tomogram(tomogram(), picks(), truth)
    score = None if truth is None else evaluate({"TS_1": picks()}, {"TS_1": truth})
    page = Page(writer.finish(score, {}, {}))
    assert "0particles found" in page.text


def test_a_page_of_failures_only_is_written(tmp_path):
    page = Page(ReportWriter(tmp_path).finish(None, {"TS_1": "broken"}, {}))
    assert page.rows == [["TS_1", "broken"]]
    assert "nothing counts them on this page" in page.text


def test_pictures_are_drawn_of_the_first_tomograms_and_no_other_is_read(tmp_path):
    writer = ReportWriter(tmp_path, most_drawn=1, slices=1)
    writer.add_tomogram(tomogram(), picks((APO, 0, 0, 0)))
    nowhere = RunLocation(name="TS_2", tomogram_path=tmp_path / "nowhere.zarr", picks_directory=None)
    writer.add_tomogram(nowhere, picks((VIRUS, 0, 0, 0)))
    page = Page(writer.finish())
    assert page.text.count("1 found") == 1
    assert ["TS_2", "0", "0", "0", "0", "0", "1", "1"] in page.rows
    assert "the first 1 of 2 tomograms" in page.text


def test_two_tomograms_of_one_name_are_refused(tmp_path):
    writer = ReportWriter(tmp_path, slices=1)
    writer.add_tomogram(tomogram(), picks())
    with pytest.raises(InputError, match="TS_1"):
        writer.add_tomogram(tomogram(), picks())


def test_a_report_where_a_file_is_in_the_way_is_refused(tmp_path):
    (tmp_path / "report").write_text("")
    with pytest.raises(InputError, match="report"):
        ReportWriter(tmp_path / "report")


def test_every_particle_type_has_its_colour():
    for theme in (LIGHT, DARK):
        assert len(set(theme.particles)) == len(PARTICLES)
