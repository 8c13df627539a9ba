// SPDX-License-Identifier: Apache-2.0

package code

// processes are the problems of patching processes that run.
func processes() []Entry {
	return []Entry{
		// TS9601-9609: finding and reading
		{"TS9601", KindError, "the process, or the program that it ran, has ended", "nothing: what has ended needs no patch; look again for what runs now"},
		{"TS9602", KindError, "this is a thread of the kernel, not a process", "patch the kernel with a kernel live patch"},
		{"TS9603", KindError, "the process runs a 32-bit program", "update its package and restart it: userland live patches are for 64-bit programs"},
		{"TS9604", KindError, "the process's memory cannot be read", "look for file systems that do not answer (NFS, FUSE) among what it maps; it is tried again later. Else update its package and restart it"},
		{"TS9605", KindError, "another program traces the process", "end the debugger or tracer (gdb, strace, CRIU) that holds it; it is tried again later"},
		{"TS9606", KindError, "this system forbids to trace any process", "kernel.yama.ptrace_scope=3 holds until the next boot: set it to 2 or less in the sysctl configuration and reboot, or restart the process with an updated package"},
		{"TS9607", KindError, "this process may not look into that one", "run it as root with CAP_SYS_PTRACE and CAP_SYS_ADMIN, in the first user and pid namespaces; see what a security module (AppArmor, SELinux) or kernel.yama.ptrace_scope forbids"},
		{"TS9608", KindError, "the program is linked statically, and what it has of libraries cannot be told", "ask who built it; update and restart it if it holds the library that is fixed"},
		{"TS9609", KindError, "another instance of Tsugi is at work on the process", "wait for its end; it is tried again later"},
		// TS9610-9619: stopping and injecting. TS9610 and TS9613 said what TS9601 and
		// TS9605 say.
		{"TS9611", KindError, "a thread of the process could not be stopped in time", "it is tried again by itself; a thread that waits for a child, a disk or a dead file server for long holds it up until that ends"},
		{"TS9612", KindError, "the process may not be traced", "run Tsugi as root with CAP_SYS_PTRACE, and see what a security module (AppArmor, SELinux) or kernel.yama.ptrace_scope forbids"},
		{"TS9614", KindError, "the process shares its memory with another process", "it is tried again by itself: a child that is about to start a program does so for a moment only"},
		{"TS9615", KindError, "no thread of the process can make a system call for Tsugi now", "it is tried again by itself when the threads have moved on"},
		{"TS9616", KindError, "the seccomp filter of the process does not let Tsugi map memory", "restart the program to have the fix, or let its filter allow mmap, mprotect, munmap and rt_sigreturn"},
		{"TS9617", KindError, "system calls can't be made in this process", "restart the program to have the fix"},
		{"TS9618", KindError, "a system call made in the process did not come back as it should", "the process goes on as it was; it is tried again by itself"},
		{"TS9619", KindError, "the memory of the process does not answer", "see whether a file system that it has mapped files of still answers"},
		// TS9620-9629: stacks
		{"TS9620", KindError, "a thread is in a function that is to be replaced", "Tsugi tries again; a function that is never left can be patched when the process starts anew"},
		{"TS9621", KindError, "it cannot be shown that a thread is outside of the functions that are to be replaced", "Tsugi tries again; code without unwind tables, on a stack of its own, must be left first"},
		// TS9630-9649: applying, reverting, healing
		{"TS9631", KindError, "a function of the process is not as it was shipped", "take out the breakpoint, probe or other patch that is there, or restart the process; it is tried again later"},
		{"TS9632", KindError, "the process is still being loaded", "nothing: it is tried again in a moment"},
		{"TS9633", KindError, "there is no room for new code near the old", "restart the process with an updated package: within 2 GiB of the library its address space is full"},
		{"TS9634", KindError, "what the live patch refers to cannot be found in the process", "restart the process with an updated package"},
		{"TS9635", KindError, "the process maps the file in another way than its loader would", "restart the process with an updated package"},
		{"TS9636", KindError, "the live patch needs the process's own unwinder to know its code", "restart the process with an updated package: exceptions may pass through the new code, and no process can be told of it from outside yet"},
		{"TS9637", KindError, "the process did not take the change", "nothing was changed if it could be taken back; see what the kernel said, and try again"},
		{"TS9638", KindError, "what is in the process is not what its own journal says", "someone else has changed a function that Tsugi has patched: take that out, or restart the process"},
		{"TS9639", KindError, "the process kept changing, and nothing was done", "it is tried again later"},
		{"TS9640", KindError, "the lock of the process cannot be taken", "run it as root: locks lie below /run/tsugi"},
		{"TS9641", KindError, "the process could not be given memory for new code", "look at its limits (address space, locked memory, vm.max_map_count) and at what security modules forbid; else restart it with an updated package"},
		{"TS9642", KindError, "the process could not be patched now", "see what was met; it is tried again later"},
		{"TS9643", KindError, "the entry of a function lies across two pages", "restart the process with an updated package"},
		{"TS9644", KindError, "the process's container or service is at its memory limit", "raise the limit (memory.max, MemoryMax=), or restart it with an updated package; it is tried again later"},
		{"TS9645", KindError, "the process is frozen", "let it go on (systemctl thaw, docker unpause); it is tried again later"},
		{"TS9649", KindError, "the live patch cannot be used", "build it again"},
		// TS9650-9659: new processes
		{"TS9650", KindError, "the kernel does not tell of new processes here", "run it as root with CAP_NET_ADMIN, in the first pid and network namespaces, on a kernel with CONFIG_PROC_EVENTS=y; until then new processes are found by looking every few seconds"},
		{"TS9651", KindError, "the kernel does not tell here when a library is opened", "run it as root with CAP_SYS_ADMIN, on a kernel with CONFIG_FANOTIFY=y; until then libraries that a process loads late are found by looking now and then"},
		// TS9660-9669: the command line
		{"TS9660", KindError, "only root may look into all processes", "run the command with sudo"},
		{"TS9661", KindError, "what is applied to processes can't be read or written", "look at the reason; the files are below processes in the agent's state directory"},
		{"TS9662", KindError, "another tsugi is changing processes", "try again when it is done"},
		{"TS9663", KindError, "this live patch does not go with what is applied", "see the reason; tsugi status --processes lists what is applied"},
		{"TS9665", KindError, "the process is not as it should be yet", "tsugi keep brings it there: systemctl start tsugi-keep; or apply the live patch again"},
		{"TS9664", KindError, "no live patch of this name is applied to processes", "tsugi status --processes lists what is applied"},
		{"TS9666", KindError, "the live patch is not for this process", "tsugi apply --local FILE --dry-run lists the processes that it is for"},
	}
}
