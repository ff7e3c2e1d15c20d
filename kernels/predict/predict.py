# %% [markdown]
# # Particles in cryo-electron tomograms
# Picks the competition's test tomograms with the package `kaggle_cryoet`, offline, on both GPUs, and writes
# `submission.csv`. Attach the dataset `kaggle-cryoet`, the competition, and, if you have one, the notebook that
# fine-tuned a network.

# %%
import subprocess
import sys
from pathlib import Path

places = ("*/install.py", "datasets/*/*/install.py")
installers = [path for place in places for path in sorted(Path("/kaggle/input").glob(place))]
if not installers:
    raise FileNotFoundError("the dataset kaggle-cryoet is not attached: add it with Add Input")
subprocess.run([sys.executable, installers[0]], check=True)

# %%
from kaggle_cryoet.kaggle.environment import KaggleEnvironment

kaggle = KaggleEnvironment()
print("weights:", kaggle.weights, *kaggle.options)
options = [*kaggle.options, "--weights", kaggle.weights]
limit = 11.4 * 3600  # of the 12 hours that a submission may take
for line in kaggle.predict(kaggle.test, *options, output=kaggle.working / "submission.csv", time_limit_seconds=limit):
    print(line, flush=True)
