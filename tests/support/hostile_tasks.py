"""User tasks that misbehave, as the text of a file with a class T."""
from pathlib import Path

GOOD = """
import os, sys, time
{top}
class T:
    levels = 1
    def chance(self, level):
        return 0.5
    def generate(self, rng, level):
        n = int(rng.random() * 100000)
        {generate}
        return f"q {{n}}@", "ab"[n % 2]
    def verify(self, prompt, answer):
        {verify}
        return answer == "ab"[int(prompt.split()[1][:-1]) % 2]
"""
DOUBLE_FORK = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {work}
        time.sleep(300)
    os._exit(0)
os.wait()
"""
COUNTER = "T.n = getattr(T, 'n', 0) + 1\n        if T.n {when}: {do}"
SET_OF_TEXTS = "n = 10 * n + list({'red', 'green', 'blue', 'black', 'white', 'pink'}).index('red')"
PRINT_OFTEN = "print('y' * 20_000_000)"
# Never outside of a PID namespace: there -1 would be every process of the user.
KILL_IN_NAMESPACE = "\n            if os.getppid() == 1 and os.getpid() < 50: os.kill({}, 9)"
FLOOD = "os.write(int(sys.argv[1]), b'x' * 2 ** 20)"


def after(n_calls: int, do: str) -> str:
    """For `generate`: does that in every call after so many."""
    return COUNTER.format(when=f"> {n_calls}", do=do)


def hostile(folder: Path, top: str = "", generate: str = "pass", verify: str = "pass") -> str:
    """The name of a task whose class does that, in a new file."""
    path = folder / "hostile.py"
    path.write_text(GOOD.format(top=top, generate=generate, verify=verify))
    return f"{path}:T"
