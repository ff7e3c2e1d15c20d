"""Packaging; the settings of the tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
match = re.search(r'^__version__ = "(.+)"$', (root / "kaggle_cryoet" / "__init__.py").read_text(encoding="utf8"), re.M)
if match is None:
    raise RuntimeError("kaggle_cryoet/__init__.py does not say __version__")

setup(
    name="kaggle-cryoet",
    version=match[1],
    description="Particle picking in cryo-electron tomograms: 3D U-Net, YOLO11 and a simulator, offline on Kaggle",
    long_description=(root / "README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["kaggle_cryoet", "kaggle_cryoet.*"]),
    package_data={
        "kaggle_cryoet": ["py.typed", "weights/*/*"],
        "kaggle_cryoet.simulation": ["bead_models/*", "denoiser/*"],
    },
    python_requires=">=3.11",
    install_requires=[
        "torch>=2.5",
        "torchvision",
        "monai>=1.5",
        "ultralytics>=8.4.190",
        "zarr>=3.0",
        "numpy>=2.0",
        "pandas>=2.2",
        "connected-components-3d>=3.12",
        "numba>=0.60",
        "scipy>=1.15",
        "mrcfile>=1.5",
        "safetensors>=0.4",
        "filelock>=3.12",
        "matplotlib>=3.8",
        "pillow>=10",
        "tqdm>=4.66",
        "click>=8.1",
        "pyyaml>=6",
    ],
    extras_require={
        "train": ["lightning>=2.6"],
        "dev": [
            "lightning>=2.6",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "mypy>=1.11",
            "packaging>=24.2",
            "pandas-stubs",
            "scipy-stubs",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["kaggle-cryoet=kaggle_cryoet.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
