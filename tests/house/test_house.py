"""The house's own promises about itself: what may be where, and that its pages say what is."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
import typing
import uuid
import zipfile
from datetime import date
from enum import Enum
from pathlib import Path

import pytest
import yaml
from prefect.flows import Flow
from prefect.tasks import Task
from sqlalchemy.ext.asyncio import create_async_engine

from ordernotify.cli.carriers import carriers_page
from ordernotify.cli.settings_page import settings_page
from ordernotify.cli.show import capabilities, platforms_page
from ordernotify.platforms import PLATFORMS
from ordernotify.store import tables

ROOT = Path(__file__).resolve().parents[2]
CARD_FOLDERS = ("flows", "tasks", "blocks", "data_checks")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _tracked():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [ROOT / name for name in names] or [path for path in ROOT.rglob("*") if path.is_file()]


def test_the_wheel_ships_only_ordernotify_with_its_templates(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/", 1)[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"ordernotify"}
    assert "ordernotify/_templates/shipped/en/sms.j2" in names
    assert "ordernotify/sandbox/recordings/shopify_order.json" in names
    assert {"ordernotify/web/portal/pages/base.html", "ordernotify/web/portal/pages/portal.css"} <= set(names)


@pytest.mark.parametrize("folder", CARD_FOLDERS)
def test_no_module_of_a_card_folder_hides_a_standard_or_installed_one(folder):
    installed = {name.replace("-", "_").lower() for name in importlib.metadata.packages_distributions()}
    ours = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert not ours & (set(sys.stdlib_module_names) | installed)


def test_every_deployment_names_a_flow_that_imports():
    for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        module, _, name = entry["entrypoint"].rpartition(".")
        assert "/" not in entry["entrypoint"]
        assert isinstance(getattr(importlib.import_module(module), name), Flow), entry["entrypoint"]


def _engines():
    for folder in ("flows", "tasks"):
        for path in sorted((ROOT / folder).glob("*.py")):
            module = importlib.import_module(f"{folder}.{path.stem}")
            for name, value in vars(module).items():
                if isinstance(value, (Flow, Task)) and inspect.getmodule(value.fn) is module:
                    yield f"{folder}.{path.stem}.{name}", value


NAMES = {"platform", "carrier"}  # words of our own registries


@pytest.mark.parametrize(("name", "engine"), list(_engines()))
def test_only_ids_enums_dates_and_numbers_travel_as_parameters(name, engine):
    hints = typing.get_type_hints(inspect.unwrap(engine.fn))
    for parameter in inspect.signature(engine.fn).parameters.values():
        kinds = _kinds(hints[parameter.name])
        allowed = all(
            kind in {uuid.UUID, int, bool, date, type(None)} or (isinstance(kind, type) and issubclass(kind, Enum))
            for kind in kinds
        )
        assert allowed or parameter.name in NAMES, f"{name}({parameter.name}: {hints[parameter.name]})"


def _kinds(hint):
    arguments = typing.get_args(hint)
    return [kind for argument in arguments for kind in _kinds(argument)] if arguments else [hint]


def test_no_file_names_a_machine_or_a_place_outside():
    forbidden = re.compile(r"/root/|(?<![\w./])/work/|\.\./shared|shared/reference")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _tracked()
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".j2", ".json"} and path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []


# Statements of these functions change no fact: leases, claims and schedules, or a row whose record its caller writes
# in the same transaction.
NO_RECORD_OF_THEIR_OWN = {
    "inbox.claim": "a lease",
    "inbox.claim_due": "a lease",
    "inbox.take_over": "a lease",
    "inbox.note_run": "which run works on a lease",
    "inbox.renew": "a lease",
    "inbox.note_failed": "a lease",
    "inbox.hand_back": "a lease",
    "inbox.open_batch": "a lease",
    "inbox.top_up": "a lease",
    "inbox.request": "a lease",
    "inbox.finish": "a lease, and the end of a stage whose records are written",
    "sending.postpone": "a schedule",
    "sending.postpone_unknown": "a schedule",
    "sending._note_opt_outs": "recorded by record_outcomes with the outcome",
    "receipts._opt_out": "recorded by its callers",
    "plans._insert_deliveries": "recorded by record_plan",
    "plans._insert_suppressions": "recorded by record_plan",
    "corrections.link": "recorded by record_plan",
    "portal_work.claim": "a lease",
    "portal_work.hand_back": "a lease",
    "portal_work.renew": "a lease",
    "portal_work.note_run": "which run works on a lease",
    "portal_work.note_failed": "a lease",
    "orders._write_orders": "recorded by _settle in the same transaction",
    "orders._write": "emits what was gathered",
    "directory._put_recipients": "recorded by put_client",
    "shipments.make": "recorded by orders with the event that named the parcel, in the same transaction",
    "shipments.keep_unplaced": "a shell whose words hearing.write records in the same transaction",
    "shipments.drop_unplaced": "the shell, whose words hearing.write has recorded with the order's own shipment",
    "shipments.claim": "a lease",
    "shipments.claim_named": "a lease",
    "shipments.release": "a lease",
    "shipments.postpone": "a schedule",
    "shipments.ask_now": "a schedule",
    "shipments.note_followed": "a schedule",
    "stories.keep": "recorded by hearing.write in the same transaction",
    "hearing._write_shipments": "recorded by write in the same transaction, or a schedule",
    "hearing._accept": "names for orders; the events are recorded by the inbox in the same transaction",
    "quotas.grant": "a count of calls",
    "holds.let_go": "a schedule; the end of the hold is recorded",
    "hold_questions.pass_over": "which question is open; nothing was answered",
    "hold_questions.note_hold_run": "which run asks",
    "holds._first_vote": "recorded by _keep, _release or refuse in the same transaction",
    "holds.refuse": "recorded by _move",
    "holds._keep": "recorded by _move",
    "holds._release": "recorded by _move",
    "sessions.session_of": "when a session was last used, to the minute",
    "sessions.sign_in": "recorded by proven in the same transaction",
    "sessions.issue_code": "recorded by proven in the same transaction",
    "summary_records._write_batch": "recorded by record",
    "summary_records._write_deliveries": "recorded by record",
}
_WRITES = re.compile(r"\b(INSERT INTO (?!audit\.)\w|UPDATE \w+ SET|DELETE FROM (?!audit\.)\w)")


def test_no_state_is_written_without_its_record_in_the_same_function():
    silent = []
    for path in sorted((ROOT / "ordernotify" / "store").glob("*.py")):
        if path.stem in {"setup", "sealer", "tables"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            sql = " ".join(
                text.value for text in ast.walk(node) if isinstance(text, ast.Constant) and isinstance(text.value, str)
            )
            calls = {
                call.func.id
                for call in ast.walk(node)
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
            }
            docstring = ast.get_docstring(node) or ""
            if _WRITES.search(sql.replace(docstring, "")) and not calls & {
                "emit",
                "recording",
                "_changed",
                "open_incidents",
            }:
                name = f"{path.stem}.{node.name}"
                if name not in NO_RECORD_OF_THEIR_OWN:
                    silent.append(name)
    assert silent == []


@pytest.mark.integration
async def test_the_tables_are_what_the_migrations_make(cluster_url, urls):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = urls.app.split("?")[0].rsplit("/", 1)[1]
    engine = create_async_engine(cluster_url.replace("/postgres?", f"/{database}?"))

    def differences(connection):
        # Text columns are called strings by SQLModel; everything else is compared.
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        return compare_metadata(context, tables.SQLModel.metadata)

    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    assert found == []


def test_the_generated_pages_are_up_to_date():
    rows = [capabilities(platform) for platform in PLATFORMS.values()]
    page = platforms_page([row for row in rows if row["sends"]], [row for row in rows if not row["sends"]])
    assert (ROOT / "docs/reference/platforms.md").read_text() == page
    assert (ROOT / "docs/reference/settings.md").read_text() == settings_page()
    assert (ROOT / "docs/reference/carriers.md").read_text() == carriers_page()


def test_every_dependency_has_its_reason():
    wanted = {re.split(r"[\[<>=;! ]", line, maxsplit=1)[0] for line in PROJECT["project"]["dependencies"]}
    page = (ROOT / "docs/reference/dependencies.md").read_text()
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)) == wanted


def test_each_adapter_fits_into_one_view():
    long = {
        path.name: lines
        for path in (ROOT / "ordernotify/platforms").glob("[a-z]*.py")
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_nothing_outside_an_adapter_asks_for_a_platform_by_name():
    names = "|".join(PLATFORMS)
    asked = re.compile(rf"(==|!=|\bin\b)\s*[({{\[]?\s*[\"']({names})[\"']")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("ordernotify", "flows", "tasks", "blocks")
        for path in (ROOT / folder).rglob("*.py")
        if not {"platforms", "sandbox", "carriers"} & set(path.parts)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if asked.search(line)
    ]
    assert found == []


def test_the_readme_names_only_commands_that_exist():
    from typer.main import get_command

    from ordernotify.cli import app

    known = get_command(app).commands
    named = set(re.findall(r"uv run ordernotify ([a-z]+)", (ROOT / "README.md").read_text()))
    assert named <= set(known)
    makefile = (ROOT / "Makefile").read_text()
    assert all(
        re.search(rf"^{target}:", makefile, re.MULTILINE)
        for target in re.findall(r"`make ([a-z-]+)`", (ROOT / "README.md").read_text())
    )
