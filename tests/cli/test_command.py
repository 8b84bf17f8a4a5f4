from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref

import pytest

from asr.cli.command import add_note_to_signal, run_command, say, write_result
from asr.errors import AsrError, AsrWarning, ConfigError, DataError, InputError
from asr.files.writing import write_whole


def run(work, *, quiet: bool = False, debug: bool = False) -> int:
    return run_command("prog", lambda _: argparse.Namespace(quiet=quiet, debug=debug), lambda _: work(), [])


def raiser(error: BaseException):
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("a and b contradict"), 2, "prog: error: a and b contradict"),
        (InputError("must be positive"), 2, "prog: error: must be positive"),
        (DataError("is empty", path="x.wav", line=3), 1, "prog: error: x.wav:3: is empty"),
        (AsrError("diverged"), 1, "prog: error: diverged"),
        (DataError("two\nlines", path="x"), 1, "prog: error: x: two lines"),
        (PermissionError(13, "Permission denied", "out/x.txt"), 1, "prog: error: out/x.txt: Permission denied"),
        (OSError("disk is gone"), 1, "prog: error: disk is gone"),
        (KeyboardInterrupt(), 130, "prog: interrupted"),
    ],
)
def test_errors_are_one_line_and_a_status(error, status, line, capsys):
    assert run(raiser(error), quiet=True) == status
    assert capsys.readouterr() == ("", line + "\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb", r"a\u202eb"),
        ("été 中 \N{GRINNING FACE}", "été 中 \N{GRINNING FACE}"),
    ],
)
def test_control_characters_do_not_reach_the_terminal(text, shown, capsys):
    def work() -> int:
        warnings.warn(AsrWarning(f"tag {text}"), stacklevel=1)
        say(f"note {text}", prog="prog")
        raise DataError(f"must not be {text}", path=f"{text}.wav")

    assert run(work) == 1
    lines = [f"prog: warning: tag {shown}", f"prog: note {shown}", f"prog: error: {shown}.wav: must not be {shown}"]
    assert capsys.readouterr().err.splitlines() == lines
    assert run(raiser(PermissionError(13, "Permission denied", text))) == 1
    assert capsys.readouterr().err == f"prog: error: {shown}: Permission denied\n"


def test_debug_shows_where_and_keeps_the_status(capsys):
    assert run(raiser(ConfigError("wrong")), debug=True) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed and "raise error" in printed
    assert printed.endswith("prog: error: wrong\n")


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


def test_the_status_is_what_the_command_returns(capsys):
    assert run(lambda: write_result("text\n") or 1) == 1
    assert capsys.readouterr() == ("text\n", "")


def warn_thrice() -> int:
    for _ in range(2):
        warnings.warn(AsrWarning("x.wav: truncated"), stacklevel=1)
    warnings.warn("for programmers", FutureWarning, stacklevel=1)
    return 0


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        ({}, ["prog: warning: x.wav: truncated"] * 2),
        ({"quiet": True}, []),
        (
            {"debug": True},
            ["prog: warning: x.wav: truncated"] * 2 + ["prog: warning: FutureWarning: for programmers"],
        ),
    ],
)
def test_warnings_are_lines(flags, lines, capsys):
    assert run(warn_thrice, **flags) == 0
    assert capsys.readouterr().err.splitlines() == lines


def test_warnings_are_left_as_they_were():
    show, filters = warnings.showwarning, list(warnings.filters)
    run(warn_thrice)
    assert warnings.showwarning is show and warnings.filters == filters


LINES = """
import argparse, sys
from asr.cli.command import run_command, write_result
def work(args):
    for number in range(100_000):
        write_result(f"{number}\\n")
    return 0
sys.exit(run_command("prog", lambda _: argparse.Namespace(quiet=False, debug=False), work, []))
"""


def test_a_reader_that_has_had_enough_is_no_error():
    with subprocess.Popen([sys.executable, "-c", LINES], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE


ODD = r"""
import argparse, json, sys
from asr.cli.command import run_command, say, write_result
def work(args):
    write_result(json.dumps({"text": "\u00e9\u2603\U0001f600\udcff"}, ensure_ascii=False) + "\n")
    say("\u00e9 said", prog="prog")
    return 0
sys.exit(run_command("prog", lambda _: argparse.Namespace(quiet=False, debug=False), work, []))
"""


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp1252"])
def test_json_is_json_whatever_a_terminal_can_show(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", ODD], capture_output=True, env=environment)
    assert json.loads(done.stdout.decode(encoding))["text"] == "\u00e9\u2603\U0001f600\udcff"
    assert done.stderr.decode(encoding).endswith("said\n")


@pytest.mark.parametrize(
    ("redirection", "status", "stdout", "stderr"),
    [
        ("> /dev/full", 1, "", "prog: error: standard output: No space left on device\n"),
        (">&-", 1, "", "prog: error: standard output: it is closed\n"),
        ("2>&-", 0, '{"text": "\u00e9\u2603\U0001f600\\udcff"}\n', ""),
        (">&- 2>&- <&-", 1, "", ""),
        ("2> /dev/full", 1, '{"text": "\u00e9\u2603\U0001f600\\udcff"}\n', ""),
    ],
)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_streams_that_are_full_or_closed(redirection, status, stdout, stderr):
    command = f'"$0" -c "$1" {redirection}'
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(["sh", "-c", command, sys.executable, ODD], capture_output=True, env=environment)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (status, stdout, stderr)


def test_ctrl_c_ends_with_130_and_without_a_traceback():
    code = LINES.replace("100_000", "10**12")
    code = f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"  # a job in the background
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"0\n"
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == b"prog: interrupted\n"


def test_ctrl_c_while_the_modules_of_a_command_load_has_no_traceback():
    code = "import sys\nsys.argv[0] = {!r}\nimport asr.cli\nraise KeyboardInterrupt"
    for program, is_ours in (("/bin/asr-transcribe", True), ("notebook.py", False)):
        done = subprocess.run([sys.executable, "-c", code.format(program)], capture_output=True, text=True)
        assert done.returncode == -signal.SIGINT
        assert (done.stderr == "asr-transcribe: interrupted\n") == is_ours
        assert ("Traceback" in done.stderr) != is_ours


@pytest.mark.parametrize(
    ("signal_number", "status", "line"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_error_of_the_clean_up_does_not_hide_the_signal(signal_number, status, line, capsys):
    def work() -> int:
        lock = threading.RLock()
        try:
            signal.raise_signal(signal_number)
            lock.acquire()
        finally:
            lock.release()  # what tqdm does: RuntimeError, since nothing was acquired
        return 0

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        assert run(work) == status
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == f"prog: {line}\n"


def test_a_program_that_is_told_to_end_leaves_nothing_half_written(tmp_path):
    code = LINES.replace("100_000", "10**12")
    code = code.replace(
        "    for number",
        f"    from asr.files.writing import replacing\n    with replacing({str(tmp_path / 'x')!r}):\n     for number",
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"0\n"
        process.terminate()
        _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (143, b"prog: terminated\n")
    assert list(tmp_path.iterdir()) == []


def test_letters_that_the_terminal_lacks_are_escaped():
    code = LINES.replace("100_000", "1").replace('f"{number}\\n"', '"\\u597d\\n"')
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert done.stdout == b"\\u597d\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(lambda: write_whole(tmp_path / "file" / "x.txt", "text")) == 1
    assert capsys.readouterr().err == f"prog: error: {tmp_path / 'file'}: a part of this path is a file\n"


@pytest.mark.parametrize("cleaned_up", [True, False])
def test_an_interrupt_leaves_no_object_of_the_work_behind(cleaned_up, capsys):
    """Nothing is collected at exit, and soxr complains of each resampler that is alive then."""

    class Resampler:
        pass

    alive = weakref.WeakSet()

    def work() -> int:
        resampler = Resampler()
        alive.add(resampler)
        try:
            raise KeyboardInterrupt
        except BaseException as error:
            if cleaned_up:
                add_note_to_signal(error, lambda: "1 of 2")
            raise

    gc.collect()
    gc.disable()
    try:
        assert run(work) == 130
        assert not alive
    finally:
        gc.enable()
    assert capsys.readouterr().err == ("prog: interrupted: 1 of 2\n" if cleaned_up else "prog: interrupted\n")
