"""Records CPython's traces for the corpus. Input: a program a line, or a line of the corpus as it is. Output: the corpus's lines,
objects with the program and its trace, messages included."""

import json
import sys
import warnings

import interpreter
import virtual_loop


def main():
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore")
    virtual_loop.patch()
    for line in sys.stdin:
        given = json.loads(line)
        program = given.get("program", given)
        entry = {"program": program, "trace": interpreter.run(program, True)}
        print(json.dumps(entry, separators=(",", ":"), ensure_ascii=False))


main()
