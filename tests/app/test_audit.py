"""The page on audits: a saved selection against random sets, and what risk an unlearning run leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from analysis.audit.balance import balanced
from analysis.audit.candidates import everything, within
from analysis.audit.config import AuditConfig, BalanceConfig, RiskConfig
from analysis.audit.ease import audited
from analysis.audit.risk import risk_of
from analysis.difficulty import ScoredRun
from cli.door import door
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunState, submit, worker
from mrd_core.samples import ForgetSet, save_stratum, saved_strata
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.config import Limits, UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from tests.app.conftest import Home, adopted, settings_for, sound, texts

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]


def test_without_a_set_or_an_unlearning_run_the_page_says_what_to_do(app: Open, own: Home, tmp_path: Path) -> None:
    page = sound(app(own.path, "audit", run=own.run.id))
    assert "This run is the pool." in texts(page)
    assert "Nothing was unlearned from this score run yet." in texts(page)
    assert "None is scored yet" in texts(app(tmp_path / "empty", "audit"))


def test_a_run_of_the_whole_pool_is_no_set_within_it(app: Open, own: Home) -> None:
    adopted(own.store, own.run, "again")
    assert len(own.store.list(kinds=["score"])) == 2
    assert "This run is the pool." in texts(sound(app(own.path, "audit", run=own.run.id)))


def test_a_saved_selection_is_held_against_random_sets_on_the_page_and_in_the_report(
    app: Open, own: Home, offered: dict[str, Any]
) -> None:
    files = ScoreFiles(own.run.directory)
    easiest = list(pd.read_parquet(files.scores).sort_values("mrd")["sample_id"].tail(12))
    save_stratum(ForgetSet.load(files.samples), easiest, "Easy ones", own.path)
    page = sound(app(own.path, "audit", run=own.run.id))
    config = AuditConfig(pool=own.run.directory, forget_set="Easy ones")
    expected = audited(within(ScoredRun(own.run.directory), easiest), config)
    assert expected.verdict == "easier"
    assert expected.sentence in texts(page).replace("\\", "")
    (command,) = page.code
    assert f"audit set {own.run.directory} 'Easy ones'" in command.value
    page.button(key="make_report").click().run()
    assert f"report {own.run.directory} --audit 'Easy ones'" in sound(page).code[-1].value
    report = json.loads(offered["report_report.json"])
    assert report["options"]["audit"]["name"] == "Easy ones"
    assert set(report["options"]["audit"]["sample_ids"]) == set(easiest)
    assert expected.sentence in json.dumps(report, ensure_ascii=False)
    # What is imported meanwhile is compared as well, by a page that stays open.
    rival = pd.read_parquet(files.scores)[["sample_id"]].assign(value=range(own.run.summary["n_samples"]))
    rival.to_csv(own.path / "rival.csv", index=False)
    words = ["columns", "add", str(own.run.directory), str(own.path / "rival.csv"), "--title", "A rival"]
    assert CliRunner().invoke(door, words).exit_code == 0
    assert any("A rival" in table.value.to_string() for table in sound(page.run()).table)


def test_fair_sets_are_drawn_handed_out_and_kept(app: Open, own: Home) -> None:
    page = app(own.path, "audit", run=own.run.id)
    press(page, "Draw")
    config = BalanceConfig(pool=own.run.directory, size=min(40, own.run.summary["n_samples"] // 4))
    expected = balanced(everything(ScoredRun(own.run.directory)), config)
    assert expected.sentence in texts(sound(page)).replace("\\", "")
    assert f"balance {own.run.directory} --size {config.size}" in page.code[-1].value
    (name,) = [field for field in page.text_input if field.label == "Keep as selections named"]
    name.set_value("fair")
    press(page, "Keep")
    assert "Kept" in texts(sound(page))
    kept = pd.read_parquet(saved_strata(own.path)["fair"])
    assert set(kept["sample_id"]) == set(expected.sets[0].sample_ids)
    press(page, "Keep")
    assert "is taken by another selection" in texts(page)


def test_more_than_there_is_cannot_be_drawn_and_the_page_stays(app: Open, own: Home) -> None:
    page = app(own.path, "audit", run=own.run.id)
    (sets,) = [field for field in page.number_input if field.label == "Sets"]
    sets.set_value(1000)
    press(page, "Draw")
    assert "Draw smaller sets" in texts(page)
    assert "What risk is left after unlearning?" in [header.value for header in page.header]


def press(page: AppTest, label: str) -> None:
    (button,) = [button for button in page.button if button.label == label]
    button.click().run()


def test_what_is_at_risk_is_listed_with_texts_or_without(app: Open, own: Home) -> None:
    config = UnlearnConfig(
        score_run=own.run.directory,
        model=ModelConfig(device="cpu"),
        method="ga",
        limits=Limits(max_steps=1),
        answers=0,
    )
    run = submit(config, store=own.store, settings=settings_for(own.path))
    assert worker.run(run.directory, store=own.store) is RunState.SUCCEEDED
    page = app(own.path, "audit", run=own.run.id)
    summary = UnlearningFiles(run.directory).read_summary()
    risk = risk_of(RiskConfig(run=run.directory, accuracy=summary["thresholds"]["accuracy"]))
    assert len(risk.listed) > 0
    assert risk.sentence in texts(page).replace("\\", "")
    answer = risk.listed["answer"].iloc[0]
    assert answer in page.table[0].value.to_string()
    (switch,) = [toggle for toggle in page.toggle if toggle.label == "Hide texts"]
    hidden = sound(switch.set_value(True).run())
    assert answer not in hidden.table[0].value.to_string()
    assert risk.listed["sample_id"].iloc[0] in hidden.table[0].value.to_string()
