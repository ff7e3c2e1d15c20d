from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kaggle_cryoet.copick import write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.tomogram import Tomogram, write_tomogram
from kaggle_cryoet.training.crops import CropDataset, CropSettings, EpochSampler
from kaggle_cryoet.training.targets import TargetSettings, draw_targets
from kaggle_cryoet.training.volumes import LabelledVolume, find_labelled_runs, load_labelled_volume

VOXEL_ANGSTROM = 10.012444
SHAPE = (36, 46, 56)
CROP = (12, 20, 16)


def labelled_volume(name="a", *, shape=SHAPE, counts=(5, 5, 5, 5, 5, 5), seed=0):
    """A volume of noise, in which no two places look alike, with particles of each type at random places."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=shape)
    position = rng.uniform(0, np.array(shape) - 1, (sum(counts), 3)) * VOXEL_ANGSTROM
    picks = Picks(position_zyx_angstrom=position, label=np.repeat(np.arange(6), counts))
    return LabelledVolume(name=name, volume=volume.astype(np.float16), picks=picks, voxel_angstrom=VOXEL_ANGSTROM)


def crops_of(volumes, *, stride=2, seed=0, length=10, **settings):
    settings = CropSettings(**{"shape_zyx": CROP, "warp_fraction": 0.0} | settings)
    return CropDataset(volumes, length=length, stride=stride, seed=seed, settings=settings)


def place_of(crop, volume):
    """First voxel of a crop and the axes along which it was flipped: where its values are found in the volume."""
    for flips in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        flipped = np.flip(crop, flips)
        windows = np.lib.stride_tricks.sliding_window_view(volume, crop.shape)
        for start in zip(*np.nonzero(windows[..., 0, 0, 0] == flipped[0, 0, 0]), strict=True):
            if (windows[start] == flipped).all():
                return tuple(map(int, start)), flips
    raise AssertionError("the crop is not from the volume")


@pytest.mark.parametrize("stride", [1, 2])
def test_the_target_of_a_crop_is_cut_from_that_of_the_whole_volume_and_flipped_with_it(stride):
    volume = labelled_volume()
    dataset = crops_of([volume], stride=stride)
    whole = draw_targets(volume.picks, shape_zyx=SHAPE, stride=1, voxel_angstrom=VOXEL_ANGSTROM)
    flips_seen = set()
    for number in range(24):
        crop, target = dataset[number]
        assert crop.shape == (1, *CROP)
        assert target.shape == (6, *(edge // stride for edge in CROP))
        start, flips = place_of(crop[0].numpy(), volume.volume.astype(np.float32))
        flips_seen.add(flips)
        box = (slice(None), *(slice(s, s + e) for s, e in zip(start, CROP, strict=True)))
        if stride == 1:
            expected = whole[box]
        else:  # on the grid that begins with the crop, which may lie between the voxels of the volume's own
            moved = Picks(
                position_zyx_angstrom=volume.picks.position_zyx_angstrom - np.array(start) * VOXEL_ANGSTROM,
                label=volume.picks.label,
            )
            expected = draw_targets(moved, shape_zyx=target.shape[1:], stride=2, voxel_angstrom=VOXEL_ANGSTROM)
        np.testing.assert_allclose(target, np.flip(expected, [axis + 1 for axis in flips]), atol=1e-5)
    assert len(flips_seen) > 4


@pytest.mark.parametrize("stride", [1, 2])
def test_flips_of_a_crop_commute_with_drawing(stride):
    volume = labelled_volume()
    for axis in range(3):
        middle = (SHAPE[axis] - 1) * VOXEL_ANGSTROM
        position = volume.picks.position_zyx_angstrom.copy()
        position[:, axis] = middle - position[:, axis]
        mirrored = Picks(position_zyx_angstrom=position, label=volume.picks.label)
        shape = tuple(edge // stride for edge in SHAPE)
        drawn, of_mirrored = (
            draw_targets(picks, shape_zyx=shape, stride=stride, voxel_angstrom=VOXEL_ANGSTROM)
            for picks in (volume.picks, mirrored)
        )
        np.testing.assert_allclose(of_mirrored, np.flip(drawn, axis + 1), atol=1e-5)


def test_a_crop_larger_than_the_volume_is_mirrored_together_with_its_particles():
    volume = labelled_volume(shape=(9, 46, 13), counts=(0, 2, 0, 3, 0, 2))
    dataset = crops_of([volume], stride=1)
    whole = draw_targets(volume.picks, shape_zyx=(9, 46, 13), stride=1, voxel_angstrom=VOXEL_ANGSTROM)
    mirror = [(0, 0), (0, 3), (0, 0), (0, 3)]
    grey = np.pad(volume.volume.astype(np.float32), mirror[1:], mode="reflect")
    for number in range(8):
        crop, target = dataset[number]
        (z, y, x), flips = place_of(crop[0].numpy(), grey)
        assert (z, x) == (0, 0)
        expected = np.pad(whole, mirror, mode="reflect")[:, :, y : y + CROP[1]]
        np.testing.assert_allclose(target, np.flip(np.maximum(expected, 0), [axis + 1 for axis in flips]), atol=2.5e-3)


def test_crop_number_i_is_always_the_same_and_every_other_one_and_seed_is_not():
    volumes = [labelled_volume("a"), labelled_volume("b", seed=1)]
    first, second, other_seed = crops_of(volumes), crops_of(volumes, length=99), crops_of(volumes, seed=1)
    second[3]
    for number in (0, 7, 123456):
        for one, other in zip(first[number], second[number], strict=True):
            assert torch.equal(one, other)
        assert not torch.equal(first[number][0], first[number + 1][0])
        assert not torch.equal(first[number][0], other_seed[number][0])


def test_each_type_that_is_present_is_drawn_about_as_often_as_any_other():
    volumes = [
        labelled_volume("a", shape=(60, 120, 140), counts=(60, 1, 0, 8, 2, 1)),
        labelled_volume("b", counts=(5, 0, 0, 1, 0, 0), seed=1),
    ]
    dataset = crops_of(volumes, particle_fraction=1.0, shape_zyx=(4, 4, 4))
    # in crops this small, which type was meant is only clear from the place that was drawn
    drawn = np.zeros(6)
    for number in range(1500):
        volume, start = dataset._place(np.random.default_rng((0, number)))
        index = volume.picks.position_zyx_angstrom / VOXEL_ANGSTROM
        inside = ((index > start - 0.2) & (index < start + 4.2)).all(axis=1)
        labels = np.unique(volume.picks.label[inside])
        assert len(labels), "no particle in the crop"
        drawn[labels] += 1 / len(labels)
    assert drawn[2] == 0
    np.testing.assert_allclose(drawn[[0, 1, 3, 4, 5]] / 1500, 0.2, atol=0.04)


def test_crops_of_no_particle_lie_anywhere_and_larger_volumes_get_more():
    small, large = labelled_volume("small", shape=(12, 20, 40)), labelled_volume("large", shape=(24, 40, 40))
    dataset = crops_of([small, large], particle_fraction=0.0)
    places = [dataset._place(np.random.default_rng((0, number))) for number in range(800)]
    assert np.mean([volume is large for volume, _ in places]) == pytest.approx(0.8, abs=0.05)
    starts = np.array([start for volume, start in places if volume is large])
    assert starts.min(axis=0).tolist() == [0, 0, 0]
    assert starts.max(axis=0).tolist() == [12, 20, 24]
    np.testing.assert_allclose(starts.mean(axis=0), [6, 10, 12], rtol=0.1)


def test_no_number_comes_twice_in_the_epochs_of_a_training():
    dataset = crops_of([labelled_volume()], length=6)
    sampler = EpochSampler(6)
    numbers = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert len(sampler) == len(list(sampler)) == len(dataset)
        numbers += list(sampler)
    assert numbers == list(range(18))
    sampler.set_epoch(2)
    batches = list(DataLoader(dataset, batch_size=2, sampler=sampler))
    assert len(batches) == 3
    assert torch.equal(batches[1][0][1], dataset[15][0])


def test_processes_share_every_batch_of_the_one_that_is_alone():
    batches = {}
    for processes in (1, 2, 4):
        samplers = [EpochSampler(16, rank=rank, processes=processes) for rank in range(processes)]
        for sampler in samplers:
            sampler.set_epoch(3)
            assert len(sampler) == 16 // processes
        each = [np.array(list(sampler)).reshape(4, 4 // processes) for sampler in samplers]
        batches[processes] = np.sort(np.concatenate(each, axis=1), axis=1).tolist()
    assert batches[1] == np.arange(48, 64).reshape(4, 4).tolist()
    assert batches[1] == batches[2] == batches[4]


def test_heavier_volumes_are_drawn_from_more_often():
    light, heavy = labelled_volume("light"), replace(labelled_volume("heavy", seed=1), weight=3.0)
    for fraction in (0.0, 1.0):
        dataset = crops_of([light, heavy], particle_fraction=fraction)
        places = [dataset._place(np.random.default_rng((0, number))) for number in range(800)]
        assert np.mean([volume is heavy for volume, _ in places]) == pytest.approx(0.75, abs=0.05)


def test_a_share_of_the_crops_is_turned_and_scaled_and_its_targets_alike():
    volume = labelled_volume(counts=(3, 0, 0, 3, 0, 3))
    plain = crops_of([volume], stride=1, shape_zyx=(12, 20, 20))
    warped = crops_of([volume], stride=1, shape_zyx=(12, 20, 20), warp_fraction=0.5)
    same = np.array([torch.equal(plain[number][0], warped[number][0]) for number in range(100)])
    assert 30 < same.sum() < 70
    for number in np.flatnonzero(same)[:10]:
        assert torch.equal(plain[number][1], warped[number][1])
    still = crops_of([volume], stride=1, shape_zyx=(12, 20, 20), warp_fraction=1.0, rotation_degrees=0.0, scale=0.0)
    assert torch.equal(still[3][0], plain[3][0])


def test_in_a_warped_and_flipped_crop_the_particles_are_where_the_target_says():
    rng = np.random.default_rng(0)
    position = rng.uniform(12, np.array(SHAPE) - 13, (3, 3)) * VOXEL_ANGSTROM
    picks = Picks(position_zyx_angstrom=position, label=np.full(3, 3))
    wide = TargetSettings(sigma_of_radius=0.3)
    drawn = draw_targets(picks, shape_zyx=SHAPE, stride=1, voxel_angstrom=VOXEL_ANGSTROM, settings=wide)[3]
    volume = LabelledVolume(name="a", volume=drawn.astype(np.float16), picks=picks, voxel_angstrom=VOXEL_ANGSTROM)
    settings = CropSettings(shape_zyx=(20, 28, 28), warp_fraction=1.0, rotation_degrees=30.0, scale=0.1)
    dataset = CropDataset([volume], length=10, stride=1, seed=0, settings=settings, targets=wide)
    for number in range(12):
        crop, target = dataset[number]
        certain = torch.maximum(crop[0], target[3]) > 0.02
        assert certain.any()
        np.testing.assert_allclose(crop[0][certain], target[3][certain], atol=0.06)


def write_run(root, name="run", *, position=((50.0, 60.0, 70.0),), with_picks=True):
    """A run in the competition's layout, with ribosomes."""
    data = np.random.default_rng(0).normal(3, 2, SHAPE).astype(np.float32)
    path = root / "static" / "ExperimentRuns" / name / "VoxelSpacing10.000" / "denoised.zarr"
    write_tomogram(path, Tomogram(data=data, voxel_angstrom=VOXEL_ANGSTROM, name=name), levels=1)
    picks = Picks(position_zyx_angstrom=np.array(position), label=np.full(len(position), 3))
    if with_picks:
        write_copick(root / "overlay" / "ExperimentRuns" / name / "Picks", picks, name)
    return data


def test_a_labelled_run_is_read_normalised_and_kept_in_half_precision(tmp_path):
    data = write_run(tmp_path)
    (run,) = find_labelled_runs([tmp_path])
    loaded = load_labelled_volume(run)
    assert (loaded.name, loaded.voxel_angstrom, loaded.volume.dtype) == ("run", VOXEL_ANGSTROM, np.float16)
    np.testing.assert_allclose(loaded.volume, normalise(data), atol=4e-3)
    np.testing.assert_allclose(loaded.picks.position_zyx_angstrom, [[50, 60, 70]])


def test_runs_of_several_folders_come_one_after_the_other(tmp_path):
    write_run(tmp_path / "real", "TS_1")
    write_run(tmp_path / "simulated", "SIM_1")
    names = [run.name for run in find_labelled_runs([tmp_path / "simulated", tmp_path / "real"])]
    assert names == ["SIM_1", "TS_1"]


def test_runs_of_the_same_name_in_two_folders_are_an_input_error(tmp_path):
    for folder in ("one", "other"):
        write_run(tmp_path / folder, "SIM_1")
    with pytest.raises(InputError, match="runs need different names, got twice: SIM_1"):
        find_labelled_runs([tmp_path / "one", tmp_path / "other"])


def test_runs_without_picks_are_left_out_if_there_are_others(tmp_path, caplog):
    write_run(tmp_path / "real", "TS_1")
    write_run(tmp_path / "real", "TS_2")
    assert len(find_labelled_runs([tmp_path / "real"])) == 2
    assert not caplog.text
    write_run(tmp_path / "real", "bare", with_picks=False)
    assert [run.name for run in find_labelled_runs([tmp_path / "real"])] == ["TS_1", "TS_2"]
    assert "real: 1 of 3 runs have no picks and are left out" in caplog.text
    write_run(tmp_path / "other", "none", with_picks=False)
    with pytest.raises(InputError, match="other: no run has picks, not even none;"):
        find_labelled_runs([tmp_path / "real", tmp_path / "other"])


def test_runs_without_picks_or_with_picks_outside_are_an_input_error(tmp_path):
    write_run(tmp_path, "bare", with_picks=False)
    with pytest.raises(InputError, match="has no picks"):
        load_labelled_volume(find_runs(tmp_path)[0])
    write_run(tmp_path / "other", "outside", position=[[0.0, 0.0, 600.0]])
    with pytest.raises(InputError, match=r"outside.*1 of 1 picks lie outside"):
        load_labelled_volume(find_labelled_runs([tmp_path / "other"])[0])


def test_nothing_to_train_on_is_an_input_error():
    with pytest.raises(InputError, match="no labelled tomograms"):
        crops_of([])
    with pytest.raises(InputError, match="no particles"):
        crops_of([labelled_volume(counts=(0,) * len(PARTICLES))])
    with pytest.raises(InputError, match="less than half of a crop"):
        crops_of([labelled_volume(shape=(36, 10, 56))])
    with pytest.raises(InputError, match="positive edges"):
        CropSettings(shape_zyx=(32, 0, 32))
    with pytest.raises(InputError, match="between 0 and 1"):
        CropSettings(particle_fraction=85)
    with pytest.raises(InputError, match="less than a half"):
        CropSettings(scale=0.5)
