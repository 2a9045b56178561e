"""Every command that README and docs show is run by a test, or it is said here why not.

Each of them is also parsed as it stands, word by word, by the program that it calls.
"""

import re
import shlex
from collections.abc import Sequence
from typing import Any

import pytest
from pages import BLOCK, PAGES, ROOT

COMMAND = re.compile(r"(make|snakemake|wsss|dvc|uv|git|export|[A-Z_]+=\S+) ")

FLOW, SLURM = "tests/workflow/test_flow", "tests/slurm/test_slurm"
OWN = f"{FLOW}_docs.py::test_a_folder_and_a_table_become_results"
METHOD = f"{FLOW}_docs.py::test_an_own_method_outside_the_package_is_in_the_table"
IMPORT = "tests/stages/test_imports.py::test_the_page_leads_from_dictionaries_to_a_row_and_back"
PLANS = f"{FLOW}_plan.py::test_every_preset_has_a_plan"
EXPERIMENT = f"{FLOW}_dvc.py::test_an_experiment_runs_what_depends_on_it_and_is_compared"
S3 = f"{FLOW}_share.py::test_a_clone_has_every_artifact_from_s3"

# A command, as a pattern for the whole line: the test that runs it (at smoke size), or why none does.
COVERED = {
    r"make (demo|test|table|numbers( NUMBERS=\w+)?|report)": "no test: CI calls them themselves; they install everything",
    r"make (lint|doctor|setup)": "no test: they install, check or print, and write no result",
    r"make parity": "tests/test_parity_page.py::test_the_summary_has_a_row_per_set_and_the_listing_a_row_per_case",
    r"make docs": "tests/test_site.py::test_the_title_page_says_what_it_is_with_two_commands_and_a_picture",
    r"make faults": "tests/faults/test_campaign.py::test_a_short_campaign_is_survived",
    r"make gpu": "tests/gpu/test_script.py::test_the_script_measures_every_part_and_writes_the_page",
    r"make bench": "tests/test_benchmarks.py::test_a_benchmark_is_run_twice_and_its_table_replaces_the_old_one",
    r"snakemake --cores \d+( --config seeds=.*)?": f"{FLOW}_run.py::test_the_table_is_printed_at_the_end",
    r"snakemake --cores \d+ --configfile params/stamps.yaml": PLANS,
    r"snakemake --cores \d+ --configfile params/(voc12|stamps).yaml params/(frozen|affinities).yaml": (
        "tests/settings/test_presets.py::test_frozen_affinities_lie_over_every_preset"
    ),
    r"snakemake --cores \d+ --configfile mine.yaml": OWN,
    r"snakemake --cores 16 --configfile foundation.yaml( --config methods=\w+)?( -- work/\S+)?": (
        "tests/test_foundation.py::test_its_commands_name_stages_of_its_runs"
    ),
    r"snakemake --cores 64 --profile slurm --configfile params/voc12.yaml": (
        f"{FLOW}_voc.py::test_irnets_published_path_leads_to_a_table"
    ),
    r"snakemake --cores 64 --profile slurm --profile mysite --configfile params/voc12.yaml"
    r"( --dry-run| --config .*)?": (
        f"{FLOW}_site.py::test_a_later_profile_replaces_keys_as_a_whole"
    ),
    r"snakemake --cores 2 --profile slurm --configfile params/smoke.yaml": (
        f"{SLURM}_run.py::test_a_cluster_gives_the_same_table_and_bytes"
    ),
    r"export (XDG_CACHE_HOME|DVC_SITE_CACHE_DIR)=\S+": (
        f"{FLOW}_user.py::test_a_user_without_a_home_passes_the_pipeline"
    ),
    r"(export SNAKEMAKE_OUTPUT_CACHE=\S+|snakemake .* --cache draw weights -- all)": (
        f"{FLOW}_share.py::test_drawn_pictures_are_taken_from_the_cache_of_another_checkout"
    ),
    r"WSSS_OFFLINE=1 snakemake …": "no test: it stands for any other call of snakemake",
    r"snakemake --cores 32 --set-resources .*gpu=4": (
        "tests/machine/test_gpu_locks.py::test_two_trainings_on_all_gpus_run_one_after_the_other"
    ),
    r"CUDA_VISIBLE_DEVICES=\S+ snakemake --cores 32( --resources gpu=3)?": (
        "tests/machine/test_gpu_locks.py::test_a_choice_of_slurm_torchrun_or_the_user_is_respected"
    ),
    r"wsss params --run \S+( --params \S+)*": "tests/test_commands.py::test_settings_of_a_run_are_shown",
    r"wsss params --explain": "tests/settings/test_resolve.py::test_explain_has_a_sentence_for_every_key",
    r"wsss params --schema": "tests/settings/test_resolve.py::test_params_yaml_and_its_schema_are_what_the_models_render",
    r"wsss params --run .* --why .*": "tests/test_cli.py::test_the_layers_of_a_key_are_listed",
    r"wsss doctor( --params \S+)+": (
        "tests/runs/test_missing.py::test_the_doctor_names_what_a_preset_lacks"
    ),
    r"wsss weights \S+\.clip": (
        "tests/nets/test_clip_vit.py::test_a_file_of_the_user_becomes_initial_weights"
    ),
    r"wsss text \S+( --params \S+)*": (
        "tests/stages/test_text.py::test_open_clip_turns_words_into_vectors"
    ),
    r"wsss saliency \S+( --\S+ \S+)*": (
        "tests/stages/test_saliency_stage.py::test_maps_of_every_training_image_are_made_and_recorded"
    ),
    r"WSSS_CLIP=\S+ snakemake --cores \d+ .*": (
        "tests/nets/test_clip_vit.py::test_a_file_of_the_user_becomes_initial_weights"
    ),
    r"wsss doctor": "tests/test_cli.py::test_the_doctor_finds_this_machine_fit",
    r"wsss --debug table": "tests/test_cli.py::test_debug_shows_where_an_error_came_from",
    r"wsss data check \S+( --params \S+)*": "tests/stages/test_check.py::test_good_data_has_no_problem",
    r"wsss data fetch voc12": "tests/datasets/test_fetch.py::test_an_archive_is_fetched_verified_and_unpacked_once",
    r"wsss predict \S+ photo.jpg folder/( --params \S+)*": (
        "tests/test_cli.py::test_own_images_get_masks_overlays_and_cams"
    ),
    r"(export WSSS_PARAMS=.*|wsss table --dataset .*|wsss (predict|export \S+) birds/.*)": OWN,
    r"wsss export voc-test \S+": "tests/export/test_voc_test.py::test_the_archive_holds_the_test_images_and_no_other",
    r"wsss export voc-test \S+ --what decode": (
        "tests/export/test_voc_test.py::test_the_archive_of_a_decoder_has_its_predictions"
    ),
    r"wsss (data prepare voc12|(import|calibrate|evaluate) voc12/psa/.*|table --from work/voc12/psa)": IMPORT,
    r"wsss export \S+ voc12/psa/.*": IMPORT,
    r"wsss export scores \S+": (
        "tests/export/test_export_forms.py::test_the_scores_of_every_image_are_those_of_its_pixels"
    ),
    r"wsss export onnx \S+": "tests/export/test_export_forms.py::test_the_onnx_network_sees_what_ours_sees",
    r"wsss times.*": f"{FLOW}_run.py::test_the_times_of_all_stages_add_up",
    r"wsss table": f"{FLOW}_share.py::test_the_table_of_a_clone_is_the_same_by_the_command_alone",
    r"wsss table --from .*": "tests/stages/test_table.py::test_evaluation_files_alone_give_the_same_table",
    r"wsss table --(method|protocol) .*": "tests/stages/test_table.py::test_a_chosen_part_is_printed_and_nothing_is_written",
    r"wsss (methods|table --stage .*)": METHOD,
    r"wsss resume( --cancel)?": f"{SLURM}_end.py::test_resume_cancels_what_a_killed_head_left_and_goes_on",
    r"wsss resume --dead": (
        "tests/runs/test_resume.py::test_a_head_elsewhere_is_resumed_only_if_the_user_knows_it_is_dead"
    ),
    r"snakemake --cores 2 --(directory study|snakefile ../wsss/Snakefile)": (
        f"{FLOW}_elsewhere.py::test_a_study_in_another_folder_has_the_settings_of_the_checkout"
    ),
    r"wsss accept .*": "tests/runs/test_acceptance.py::test_old_code_is_refused_until_it_is_accepted",
    r"dvc dag": f"{FLOW}_dvc.py::test_the_page_on_versions_shows_the_stages",
    r"git diff dvc.lock": (
        f"{FLOW}_dvc.py::test_an_experiment_changes_one_runs_labels_and_what_follows"
    ),
    r"dvc repro( .*)?": f"{FLOW}_dvc.py::test_a_fresh_clone_runs_the_last_training_again_when_it_changed",
    r"dvc metrics show": f"{FLOW}_dvc.py::test_dvc_shows_the_metrics_of_the_table",
    r"dvc (exp (run|show)|(metrics|params|plots) diff).*": EXPERIMENT,
    r"(dvc push / dvc pull|dvc remote .*|git (clone|add|commit) .*|dvc (push|pull)|wsss adopt)": S3,
    r"wsss verify( .*)?": "tests/runs/test_verification.py::test_one_line_says_that_all_is_well",
    r"wsss dvc( --params \S+)*": (
        "tests/runs/test_dvc_file.py::test_every_run_of_a_preset_has_a_stage_and_no_file_has_two"
    ),
    r"(dvc (pull|get) .*|snakemake --cores 2 work/.*/segmenter.safetensors)": f"{FLOW}_dvc.py::test_one_archive_is_fetched_and_gone_on_from",
    r"dvc add .*": f"{FLOW}_files.py::test_git_tracks_no_data_but_its_versions",
    r"wsss show shapes/.*": "tests/report/gallery/test_gallery.py::test_a_gallery_is_a_page_with_pictures_and_a_table",
    r"wsss show voc12/.* --images all .*": "tests/report/gallery/test_size.py::test_all_validation_images_of_voc_stay_below_the_limit",
    r"wsss panels .*": "tests/report/gallery/test_side_by_side.py::test_a_run_has_a_column_and_an_image_a_row",
    r"snakemake --cores 2 --configfile params/embedded.yaml switch.yaml": (
        "tests/test_published_code.py::test_the_switch_of_the_page_reaches_its_run"
    ),
    r"uv export .*": "no test: it asks an index on the network about the locked packages",
    r"uv sync .*": "no test: it changes the environment; CI begins with it",
}  # fmt: skip


def commands() -> list[tuple[str, str]]:
    """Return every command of the pages with its page, without what follows a #."""
    found = []
    for page in PAGES:
        for kind, content in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
            lines = [line.partition(" #")[0].strip() for line in content.splitlines()]
            found += [
                (page, line) for line in lines if kind in ("", "sh") and COMMAND.match(f"{line} ")
            ]
    return found


def test_pages_show_commands() -> None:
    assert len(commands()) > 40
    assert {page for page, _ in commands()} >= {"README.md", "docs/own-data.md", "docs/cluster.md"}


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_that_is_shown_is_covered(page: str, command: str) -> None:
    known = [pattern for pattern in COVERED if re.fullmatch(pattern, command)]
    assert known, f"{page} shows {command!r}, and no test is named for it"


@pytest.mark.parametrize("where", sorted(set(COVERED.values())))
def test_what_covers_a_command_exists(where: str) -> None:
    if where.startswith("no test: "):
        return
    path, _, name = where.partition("::")
    assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8")


PROGRAMS = ("wsss", "snakemake", "dvc", "make")
INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*(?:" + "|".join(PROGRAMS) + r")(?: [^`\n{}…]+)?)`")
MESSAGES = sorted((ROOT / "wsss").rglob("*.py"))


def words(command: str) -> list[str]:
    """Return the words of a command, without the variables that are set before it."""
    parts = shlex.split(command)
    while parts and re.match(r"[A-Z_]+=", parts[0]):
        parts = parts[1:]
    return parts


def mentioned() -> list[tuple[str, str]]:
    """Return the commands within the sentences of the pages and of the package's messages."""
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    texts = {page: BLOCK.sub("", text) for page, text in texts.items()}
    texts |= {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in MESSAGES}
    found = [(page, command) for page, text in texts.items() for command in INLINE.findall(text)]
    return sorted({c for c in found if not (words(c[1])[1:2] or ["X"])[0].isupper()})


def parse_wsss(arguments: Sequence[str], is_whole: bool) -> None:
    """Parse a command of ours. is_whole: it names all that it needs, and not the command alone."""
    from typer.main import get_command

    from wsss.cli import app

    command: Any = get_command(app)
    context: Any = None
    rest, name = list(arguments), "wsss"
    try:
        while hasattr(command, "commands"):
            context = command.make_context(name, rest, parent=context)
            left = [*context._protected_args, *context.args]
            if not left and not is_whole:
                return
            name, command, rest = command.resolve_command(context, left)
        command.make_context(name, rest, parent=context)
    except Exception as error:
        kind = type(error).__name__  # of Typer's or of Click's own modules, by the version
        is_name = not is_whole and kind in ("MissingParameter", "NoArgsIsHelpError")
        if kind != "Exit" and not is_name:  # --help ends with Exit
            raise


def parse_snakemake(arguments: Sequence[str]) -> None:
    """Parse a call of Snakemake; an option that takes several files must not swallow the targets."""
    from snakemake.cli import parse_args

    absent = "mysite"  # the page tells a reader to write this profile
    arguments = ["slurm" if word == absent else word for word in arguments]
    _, parsed = parse_args(list(arguments))
    assert all(str(file).endswith(".yaml") for file in parsed.configfile or ())
    assert all("=" in str(change) for change in parsed.config or ())
    assert not [target for target in parsed.targets if str(target).endswith(".yaml")]


def parse(command: str, is_whole: bool) -> None:
    """Let the program that a command calls parse it; programs of others are left alone."""
    for part in re.split(r" (?:/|&&|\||>) | {2,}", command):
        program, *arguments = words(part) or [""]
        if program == "wsss":
            parse_wsss(arguments, is_whole)
        elif program == "snakemake":
            parse_snakemake(arguments)
        elif program == "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            targets = [word for word in arguments if "=" not in word]
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize(("page", "command"), sorted({c for c in commands() if "…" not in c[1]}))
def test_a_command_that_is_shown_is_parsed_as_it_stands(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    parse(command, is_whole=True)


@pytest.mark.parametrize(("page", "command"), mentioned())
def test_a_command_in_a_sentence_is_parsed_as_it_stands(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    parse(command, is_whole=False)


def test_settings_of_a_run_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from wsss.cli import app

    monkeypatch.chdir(ROOT)
    files = ("--params", "params.yaml", "--params", "params/stamps.yaml")
    done = CliRunner().invoke(app, ["params", "--run", "stamps/cam/common/s0", *files])
    assert done.exit_code == 0
    assert '"classifier"' in done.stdout
