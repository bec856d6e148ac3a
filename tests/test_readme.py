"""The code in the README runs, and its tables are those of the committed results."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_code_blocks_run_in_order(capsys):
    images = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8)
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    model(torch.zeros(1, 3, 32, 32))
    names = {
        "train_set": [(image, label % 10) for label, image in enumerate(images)],
        "device": torch.device("cpu"),
        "model": lambda inputs: model(inputs.float()),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
    }
    assert len(BLOCKS) >= 8
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert "PadCrop" in capsys.readouterr().out


def test_the_tables_are_generated_from_the_results():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.readme", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()
