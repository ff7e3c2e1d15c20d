"""`python -m kaggle_cryoet` is `kaggle-cryoet`."""

from kaggle_cryoet.cli import main

main()
