"""The command `advcl-nb`: pretraining, fine-tuning and evaluation too long for a notebook, and a list of runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout

from advcl_nb._check import require, require_one_of
from advcl_nb._cli_commands import Computing, Evaluate, Finetune, Keeping, Pretrain, Runs
from advcl_nb._cli_options import WrongUsage, parse
from advcl_nb._cli_runs import all_summaries, as_table, find, nearest_preset, read_head, read_note, run_summary
from advcl_nb._cli_train import RunFailed, line
from advcl_nb._cli_work import evaluate, finetune, pretrain
from advcl_nb._ranks import is_launched
from advcl_nb._revive import from_plain
from advcl_nb.config import Config, DataConfig
from advcl_nb.presets import preset
from advcl_nb.score import Score

ABOUT = """Adversarial contrastive learning, for what takes too long in a notebook. Runs lie under runs/ as one file
each, which notebooks open with adv.load(path).

Exit codes: 0 done, or stopped by --time-limit and saved (--json tells which under "finished"), or done before; 1 the
run failed (a loss that is not finite, a full disk); 2 wrong usage or input; 130 and 143 stopped by SIGINT or SIGTERM
and saved. Under `fabric run` the launcher's code counts: 1 after a signal, though the run is saved."""
CODES = {"finished": 0, "time limit": 0, "SIGINT": 130, "SIGTERM": 143}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line (by default this process's) and return its exit code."""
    args = sys.argv[1:] if args is None else list(args)
    try:
        command = parse("advcl-nb", ABOUT, commands(args), args)
        if isinstance(command, Runs):
            check_alone(command, args)
            show_runs(command)
            return 0
        with redirect_stdout(sys.stderr) if command.computing.json else nullcontext():
            check_place(command, args)
            check_alone(command, args)
            stands = WORK[type(command)](command)
            if is_first():
                print(told(stands), flush=True)
    except SystemExit as stop:  # tyro's, after its help or its message
        return int(stop.code or 0)
    except RunFailed as error:
        return complain(error, 1)
    except (WrongUsage, ValueError, OSError) as error:
        return complain(error, 2)
    except KeyboardInterrupt:
        return complain("interrupted; what was saved before is there", 130)
    if command.computing.json and is_first():
        print(json.dumps(stands))
    return CODES[stands["stopped"]]


def is_first() -> bool:
    """Whether this is the process that talks, of those that `fabric run` started."""
    return not is_launched() or os.environ.get("RANK", "0") == "0"


def check_alone(command: object, args: Sequence[str]) -> None:
    """Refuse what several processes would each do whole: all but pretraining on images that are there."""
    alone = not is_launched() or int(os.environ.get("WORLD_SIZE", "1")) == 1
    training = isinstance(command, Pretrain)
    todo = f"Start `advcl-nb {args[0]}` without `fabric run`."
    require(alone or training, "processes", f"one for {args[0]}", os.environ.get("WORLD_SIZE"), todo)
    todo = "They would all write the same files: download first with one process."
    require(alone or not command.computing.download, "download", "one process", os.environ.get("WORLD_SIZE"), todo)


WORK = {Pretrain: pretrain, Finetune: finetune, Evaluate: evaluate}


def commands(args: Sequence[str]) -> dict[str, object]:
    """Return each command with its defaults: the preset's, or those of the run that `args` name after the command."""
    named = peek(args)
    config, data = preset(named.preset), None
    if named.file and not named.preset:
        config, data = own_settings(named.file, config)
    protocol = named.protocol or "SLF"
    require_one_of(protocol, "protocol", tuple(config.finetune))
    computing, keeping = Computing(), Keeping()
    tuning = config.finetune[protocol]
    return {
        "pretrain": Pretrain(named.preset, computing, keeping, config.pretrain, config.data, config.model),
        "finetune": Finetune(None, named.preset, computing, keeping, tuning, config.data),
        "evaluate": Evaluate(None, named.preset, computing, data or config.data),
        "runs": Runs(),
    }


def peek(args: Sequence[str]) -> argparse.Namespace:
    """Read what the defaults depend on: --preset, --protocol, and the file named first after the command."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--preset", "--protocol"):
        parser.add_argument(name, nargs="?")
    named, _ = parser.parse_known_args(args)
    at_place = len(args) > 1 and args[0] in ("finetune", "evaluate") and not args[1].startswith("-")
    named.file = args[1] if at_place else None
    return named


def own_settings(name: str, config: Config) -> tuple[Config, DataConfig | None]:
    """Return the settings in a run's file and in its note, `config` where there are none; what is wrong shows later."""
    try:
        path = find(name)
        head, data = read_head(path), read_note(path).get("data")
    except (ValueError, OSError):
        return config, None
    own = config if head["kind"] == "finetune" else from_plain(Config, head["config"])
    return own, from_plain(DataConfig, data) if data else None


def check_place(command: object, args: Sequence[str]) -> None:
    """Refuse a run that is not named first: its settings would not have been the defaults."""
    name = {Finetune: "encoder", Evaluate: "run"}.get(type(command))
    if name is not None:
        given = getattr(command, name)
        todo = f"Write advcl-nb {args[0]} NAME, then the options; `advcl-nb runs` lists the names."
        require(given is not None and given == args[1], name, "a run right after the command", given, todo)


def told(stands: dict) -> str:
    """Return the last line of a command for a reader."""
    where = f"step {stands['step']}" + (f" of {stands['steps']}" if stands["steps"] else "")
    go_on = "" if stands["finished"] else "; --resume goes on"
    return f"{stands['stopped']}: {stands['path']}, {where}{go_on}"


def show_runs(command: Runs) -> None:
    """Print the list, or one run: what it is, its settings as a difference from the nearest preset, row and scores."""
    if command.name is None:
        summaries = all_summaries()
        print(json.dumps({"runs": summaries}) if command.json else as_table(summaries))
        return
    path = find(command.name)
    stands, (name, changes) = run_summary(path), nearest_preset(path)
    if command.json:
        print(json.dumps(stands | {"config": read_head(path)["config"]}))
        return
    print(as_table([stands]), f"\nsettings, from the preset {name}:\n{changes}", sep="\n")
    if stands["row"]:
        print(f"\nlast row: {line(stands['row'])}")
    for score in stands["scores"]:
        print(Score(score["metric"], score["correct"], score["n"], score["attack"]))


def complain(error: object, code: int) -> int:
    """Print what went wrong, and return the exit code."""
    print(f"advcl-nb: {error}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
