"""Everything about one simulated tomogram that is not its labels; `nuisance_ranges` has where it is drawn from."""

from dataclasses import asdict, dataclass

import numpy as np

from kaggle_cryoet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Nuisances:
    """One tomogram's specimen and microscope."""

    ice_thickness_angstrom: float
    """Thickness of the ice slab that holds the specimen."""
    ice_slope_y: float
    """Rise of the slab along y, in voxels per voxel."""
    ice_slope_x: float
    """Rise of the slab along x."""
    ice_taper_y: float
    """Change of the ice's thickness from one border of the field to the other along y, relative to its average."""
    ice_taper_x: float
    """The same along x."""
    ice_offset: float
    """Height of the slab's middle over the middle of the volume, relative to the volume's depth."""
    interface_fraction: float
    """Share of the particles that lie at one of the two surfaces of the ice."""
    particle_density: float
    """Numbers of labelled particles per volume, relative to the competition's training tomograms."""
    clustering: float
    """Share of particles placed in contact with one of their own kind, relative to that of the real ones."""
    lysate_per_cubic_micrometre: float
    """Small unlabelled proteins in the ice."""
    lysate_clustered: float
    """Share of them that lie in loose groups."""
    lysate_at_interface: float
    """Share of the others that lie at one of the two surfaces of the ice."""
    companions_per_ribosome: float
    """Small proteins around each ribosome, besides the others."""
    distractors_per_cubic_micrometre: float
    """Large unlabelled complexes in the ice."""
    aggregates_per_cubic_micrometre: float
    """Irregular clumps of protein."""
    vesicles_per_cubic_micrometre: float
    """Closed membranes, empty or filled."""
    filaments_per_cubic_micrometre: float
    """Thin filaments."""
    gold_per_cubic_micrometre: float
    """Fiducial beads or contaminations as dense."""
    contaminations_per_square_micrometre: float
    """Ice crystals and dirt on the surfaces of the ice."""
    carbon_edge: bool
    """Whether the edge of the carbon film's hole crosses the field of view."""
    cargo_fraction: float
    """RNA inside virus-like particles, as a share of the mass of their shell."""
    defocus_angstrom: float
    """Mean defocus of the tilt series, underfocus positive."""
    amplitude_contrast: float
    """Share of amplitude contrast in the contrast transfer function."""
    phase_shift_degree: float
    """Shift of the phase by a phase plate; 0 without one."""
    phase_flipped: bool
    """Whether the contrast transfer function was corrected by phase flipping."""
    low_frequency_restoration: float
    """How much of the transfer lost at low frequency the denoised reconstruction has back, 0 to 1."""
    slow_withheld: float
    """Share of that which it has not where no fine structure tells of a particle, 0 to 1."""
    envelope_angstrom_squared: float
    """B factor of the signal at no dose: motion, ice, misalignment."""
    damping_angstrom_squared_per_degree: float
    """Growth of the B factor with the tilt angle, by which a dose-symmetric series damages its high tilts."""
    alignment_error_angstrom: float
    """Standard deviation of the shift of each tilt image."""
    tilt_range_degree: float
    """The series runs from minus to plus this angle, about `tilt_offset_degree`."""
    tilt_offset_degree: float
    """Pretilt of the specimen that the reconstruction did not take out."""
    tilt_step_degree: float
    """Angle between neighbouring tilt images."""
    ramp_limit_per_voxel: float
    """Spatial frequency about which the ramp that weights the back-projection levels off, as after a few iterations of
    SIRT, in cycles per voxel."""
    across_cutoff_per_voxel: float
    """Spatial frequency across the tilt axis at which the filter of the back-projection begins to fall, in cycles per
    voxel; along the axis it does not."""
    tilt_weight_degree: float
    """Gaussian width of the weights of tilt images over their angle, in the reconstruction."""
    dropped_tilts: float
    """Share of the tilt images that were left out of the reconstruction."""
    signal_per_noise: float
    """Contrast of protein over the noise of the denoised reconstruction, in units of its calibration to real slices."""
    raw_noise: float
    """Noise of the reconstructions that are not denoised, over that of the denoised one."""
    wedge_filled: float
    """Share of the signal outside the tilt range that the `isonetcorrected` reconstruction has back."""
    leakage: float
    """Noise that the denoiser left outside the tilt range and between the tilt images, over that within them."""
    softness_per_voxel: float
    """Spatial frequency at which the slow fall of the denoised amplitude reaches exp(-1/2), in cycles per voxel."""
    softness_exponent: float
    """Steepness of that fall."""
    cutoff_per_voxel: float
    """Spatial frequency at which, over the slow fall, a steep one reaches exp(-1/2)."""
    cutoff_exponent: float
    """Steepness of the steep fall."""
    background_loss: float
    """Share of the amplitude that the denoiser took away where it saw no structure, 0 to 1."""
    bright_loss: float
    """Share that the denoiser took away of all that is brighter than the background's median, noise included."""
    bright_suppression: float
    """Share that the denoiser took away of what is brighter than noise: it learned that all structures are dark."""
    dark_exponent: float
    """Power with which the denoised amplitude of dark structures grows with the true one."""
    fixed_pattern: float
    """Slow changes of the background over the field: extra noise below 0.04 cycles per voxel, over the white noise."""
    streaks: float
    """Streaks of the background along the tilt axis: extra noise that is slow along it, over the white noise."""
    uncovered_border: bool
    """Whether a border of the field lies outside some of the tilt images."""
    background_spread: float
    """1.4826 times the median absolute deviation of the stored intensities."""

    def __post_init__(self) -> None:
        """Check that every value is finite, and not negative unless it is a slope or an offset."""
        signed = ("ice_slope_y", "ice_slope_x", "ice_taper_y", "ice_taper_x", "ice_offset", "tilt_offset_degree")
        for name, value in asdict(self).items():
            if not np.isfinite(value) or (value < 0 and name not in signed):
                raise InputError(f"{name} must be a finite number that is not negative, got {value}")
