"""Show a run in a browser, while it trains or after: panel, report, chat; an API for programs."""
import argparse

from seed.commands import options, outcome

HOST, PORT = "127.0.0.1", 8765


def port_number(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: use 0 to 65535")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=HOST, type=options.named,
                        help="name or address of this machine, which alone can ask by default; "
                             "0.0.0.0: of all its networks (default: %(default)s)")
    parser.add_argument("--port", default=PORT, type=port_number,
                        help="0: any that is free (default: %(default)s)")
    parser.add_argument("--status-dir", type=options.run_dir, metavar="DIR",
                        help="where the training keeps its status.json, if not in RUN")
    options.add_min_confidence(parser)
    options.add_tasks(parser)
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.serve.serving import Address, serve

    def show(address: Address) -> None:
        outcome.show(args, address._asdict(),
                     f"panel, report  {address.url}\nchat           {address.chat}\n"
                     f"for programs   {address.url}v1 with the key {address.token}")
        if args.host not in (HOST, "localhost", "::1"):
            options.log("WARNING: everybody in this network can see the run, and the token goes "
                        "through it as it is: do this only in a network that you trust")
        options.log("Ctrl-C ends")
    serve(args.run_dir, args.status_dir or args.run_dir, args.host, args.port, args.threads,
          options.log, show, options.named_tasks(args), args.min_confidence)
    return 0
