"""A profile of the user's, outside the repository, laid over `profiles/slurm` as docs/cluster.md shows it."""

import re
from pathlib import Path

import pytest
from checkout import ROOT, Checkout, fresh_checkout

pytestmark = pytest.mark.slow  # two plans, each in a process of its own


@pytest.fixture
def site(tmp_path: Path) -> Checkout:
    """Return a copy whose user has the profile `mysite` of the documentation."""
    page = (ROOT / "docs/cluster.md").read_text()
    [profile] = re.findall(r"```yaml\n(# ~/\.config/snakemake/mysite/.*?)```", page, re.DOTALL)
    folder = tmp_path / "home/config/snakemake/mysite"
    folder.mkdir(parents=True)
    (folder / "profile.yaml").write_text(profile)
    return fresh_checkout(tmp_path / "repository")


def requests(checkout: Checkout, *options: str) -> dict[str, dict[str, str]]:
    """Return what the jobs of a plan would ask Slurm for, by rule."""
    call = ("snakemake", "--cores", "2", "--profile", "slurm", "--profile", "mysite", "--dry-run")
    done = checkout.call(*call, *options)
    jobs = re.findall(
        r"rule (\w+):\n(?:    .*\n)*?    resources: (.*)\n", done.stdout + done.stderr
    )
    return {rule: dict(word.split("=", 1) for word in text.split(", ")) for rule, text in jobs}


def test_a_later_profile_replaces_keys_as_a_whole(site: Checkout) -> None:
    jobs = requests(site)
    assert jobs["train"].items() >= {"slurm_partition": "a100", "slurm_account": "vision"}.items()
    assert (jobs["train"]["gpu"], jobs["segmenter"]["runtime"]) == ("2", "720")
    assert jobs["cam_shard"]["gpu"] == "1", "what no profile sets, the rules set"


def test_the_command_line_replaces_the_resources_of_all_profiles(site: Checkout) -> None:
    jobs = requests(site, "--set-resources", "train:gpu=4")
    assert jobs["train"]["gpu"] == "4"
    assert jobs["segmenter"]["runtime"] != "720"
    assert jobs["segmenter"]["slurm_partition"] == "a100", "another key is left"
