# SPDX-License-Identifier: Apache-2.0
# What gdb shows of a process at many stops. One gdb is asked for all of them:
# a line on the descriptor COMMANDS is one stop, a line on ANSWERS what was seen.
import json
import os

import gdb

commands = os.fdopen(int(os.environ["COMMANDS"]), "r")
answers = os.fdopen(int(os.environ["ANSWERS"]), "w")
NAMES = ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"]
MASK = (1 << 64) - 1


def frames():
    seen = []
    frame = gdb.newest_frame()
    while frame is not None and len(seen) < 3000:
        # Inlined functions and tail calls have no frame of their own.
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            seen.append({"pc": frame.pc(), "name": frame.name() or "", "signal": frame.type() == gdb.SIGTRAMP_FRAME})
        try:
            last, frame = frame, frame.older()
        except gdb.error:
            break
    return seen, last.unwind_stop_reason() if frame is None else -1


def thread(t):
    t.switch()
    top = gdb.newest_frame()
    while top.type() == gdb.INLINE_FRAME:
        top = top.older()
    values = [int(top.read_register(n)) & MASK for n in NAMES]
    seen, reason = frames()
    return {
        "tid": t.ptid[1],
        "regs": values,
        "fs": int(gdb.parse_and_eval("$fs_base")) & MASK,
        "frames": seen,
        "reason": reason,
    }


def say(what):
    answers.write(json.dumps(what) + "\n")
    answers.flush()


for setting in ("pagination off", "confirm off", "backtrace past-main on", "backtrace past-entry on", "backtrace limit 3000"):
    gdb.execute("set " + setting)
gdb.execute("handle all nostop noprint pass", to_string=True)
gdb.execute("handle SIGINT stop print nopass", to_string=True)
say({"pid": gdb.selected_inferior().pid})
for line in commands:
    if line.strip() == "end":
        break
    gdb.execute("continue", to_string=True)
    if gdb.selected_inferior().pid == 0:
        say({"error": "the process has ended"})
        break
    say({"threads": [thread(t) for t in gdb.selected_inferior().threads() if t.is_valid()]})
gdb.execute("detach", to_string=True)
say({"pid": 0})
