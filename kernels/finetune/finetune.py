# %% [markdown]
# # Fine-tune on the competition's tomograms
# Trains the network of the dataset `kaggle-cryoet` on the seven labelled tomograms, leaves one out at a time to score
# it, and leaves the folder `unet3d`, which the notebook that predicts takes when this one is attached to it.

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
print("weights to start with:", kaggle.unet)
wanted = ["--output", kaggle.working, "--from", kaggle.unet, "--time-limit", 5 * 3600]
for line in kaggle.run("train", "finetune", kaggle.train, *wanted):
    print(line, flush=True)
