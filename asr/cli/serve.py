"""asr-serve: answer clients of OpenAI's and Vosk's servers, and browsers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from asr.cli.arguments import Parser, add_options, given_values
from asr.cli.command import noter, run_command, say
from asr.cli.recognizer import shown_decoding
from asr.decoding.options import DecodingOptions
from asr.errors import ConfigError
from asr.server.options import (
    PREFIX,
    ServeOptions,
    make_options,
    option_names,
    read_config,
    unknown_variables,
    variable_of,
)

if TYPE_CHECKING:
    from asr.recognition.recognizer import Recognizer

PROG = "asr-serve"
_SHORT = ("config", "host", "port", "token", "model", "queue", "live", "max_upload_bytes", "threads", "quiet")
_EXAMPLES = """\
options:
  A flag wins over the environment, the environment over the file of --config,
  and the file over the defaults. --max-seconds 600 is ASR_SERVE_MAX_SECONDS=600
  in the environment and max_seconds = 600 in the file (TOML). The file is also
  named by ASR_SERVE_CONFIG.

what it answers:
  POST /v1/audio/transcriptions, GET /v1/models   as OpenAI's servers
  WebSocket /                                     as Vosk's server
  GET /                                           a page with a microphone
  GET /healthz, GET /metrics                      for operators; Prometheus

  SIGTERM or Ctrl-C: accept no more, answer what was accepted, exit with 0. A
  second signal ends at once.

examples:
  asr-serve
  asr-serve --port 2700 --model an4
  ASR_SERVE_TOKEN=$(openssl rand -hex 16) asr-serve --host 0.0.0.0
  curl -F file=@talk.wav http://127.0.0.1:8000/v1/audio/transcriptions
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `asr-serve` with these arguments, or the arguments of the process."""
    return run_command(PROG, lambda given: make_parser(given).parse(given), run, argv)


def make_parser(arguments: Sequence[str] = ()) -> Parser:
    """The command line of `asr-serve`."""
    parser = Parser(
        PROG,
        usage="asr-serve [--host ADDRESS] [--port N] [OPTION...]",
        description="Recognise recordings and live speech for programs and browsers, over HTTP and WebSockets.",
        examples=_EXAMPLES,
        short=_SHORT,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="take options from this file (TOML)")
    add_options(parser, ServeOptions, title="server")
    add_options(parser, DecodingOptions, title="decoding", defaults=shown_decoding(arguments, None))
    return parser


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; the exit status."""
    if current_thread() is main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is accepted yet
    options = read_options(args, os.environ)
    note = noter(args, prog=PROG)
    for name in unknown_variables(os.environ):
        note(f"warning: the environment has {name}, which is no option")
    try:
        from asr.server.access import is_this_machine
        from asr.server.application import Application
        from asr.server.serving import listen, serve
    except ImportError as error:
        raise ConfigError(f"{PROG} needs packages that are not installed: pip install 'asr[serve]' ({error})") from None

    with listen(options) as listener:
        host, port = listener.getsockname()[:2]
        if not options.token and not is_this_machine(host):
            reached = f"everybody who reaches port {port} of {host} can use the server"
            note(f"warning: {reached}; require a token with {variable_of('token')} or --token")
        application = Application(load_recognizer(options), options)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        is_done = serve(
            application, listener, ready=lambda: note(f"ready on {address} with the model {application.model_names[0]}")
        )
    if not is_done:
        say("stopped; requests that were accepted are not answered", prog=PROG)
    return 0 if is_done else 1


def read_options(args: argparse.Namespace, environment: Mapping[str, str]) -> ServeOptions:
    """The options of the arguments, over those of the environment, over those of the file.

    Raises:
        ConfigError, DataError: an option is wrong, or the file cannot be read; the message names the source.
    """
    named = environment.get(PREFIX + "CONFIG")
    config = args.config or (Path(named) if named else None)
    flags = {**given_values(args, ServeOptions), **given_values(args, DecodingOptions)}
    for name in ("device", "threads"):  # flags of every command, which have defaults
        flag = args.flags[name]
        if not any(argument == flag or argument.startswith(f"{flag}=") for argument in args.arguments):
            del flags[name]
    return make_options(read_config(config) if config else {}, read_environment(environment), flags)


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The options in environment variables, read as their flags are.

    Raises:
        ConfigError: a value is wrong; the message names its variable.
    """
    values: dict[str, Any] = {}
    for name in option_names():
        if (text := environment.get(variable_of(name))) is None:
            continue
        parser = make_parser()
        flag = f"--{name.replace('_', '-')}"
        if f"--no-{name.replace('_', '-')}" in parser._option_string_actions:
            if text.lower() not in ("yes", "no", "true", "false", "1", "0"):
                raise ConfigError(f"{variable_of(name)} must be yes or no, not {text!r}")
            values[name] = text.lower() in ("yes", "true", "1")
            continue
        parser.error = _raiser(name)  # type: ignore[method-assign]
        parsed = parser.parse([f"{flag}={text}"])
        values[name] = getattr(parsed, name)
        try:
            make_options({name: values[name]})
        except ConfigError as error:
            raise ConfigError(f"{variable_of(name)}: {error}") from None
    return values


def _raiser(name: str) -> Any:
    flag = f"argument --{name.replace('_', '-')}: "

    def error(message: str) -> None:
        raise ConfigError(f"{variable_of(name)}: {message.removeprefix(flag)}")

    return error


def load_recognizer(options: ServeOptions) -> Recognizer:
    """The recogniser of the server, ready to work."""
    from asr.compute import threads
    from asr.recognition.recognizer import load

    if options.threads:
        threads.set_threads(options.threads)
    return load(
        options.model,
        device=options.device,
        precision=options.precision,
        runtime=options.runtime,
        batch_size=options.batch_size,
        decoding=options.decoding,
    )


if __name__ == "__main__":
    sys.exit(main())
