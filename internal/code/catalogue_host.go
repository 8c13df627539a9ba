// SPDX-License-Identifier: Apache-2.0

package code

// TS92xx what keeps a machine from taking a live patch; TS93xx loading and reverting.
func host() []Entry {
	return []Entry{
		{"TS9201", KindError, "live patches are not made for this architecture", "x86_64 is supported; other architectures are not yet"},
		{"TS9202", KindError, "the kernel cannot be patched live", "install a kernel with CONFIG_LIVEPATCH=y, as distributions' own kernels for servers have, and boot it"},
		{"TS9203", KindError, "the kernel cannot tell reliably what its tasks are doing", "install a kernel with CONFIG_HAVE_RELIABLE_STACKTRACE=y (on x86: the ORC unwinder): without it a live patch may never be complete"},
		{"TS9204", KindError, "the kernel does not load modules", "a live patch is a module: set kernel.modules_disabled to 0 in the sysctl configuration and reboot, or install a kernel with CONFIG_MODULES=y"},
		{"TS9205", KindError, "the kernel does not say which build it is", "a live patch is for one exact build: install a kernel that is linked with --build-id and shows /sys/kernel/notes"},
		{"TS9206", KindError, "function tracing is turned off", "turn it on: sysctl kernel.ftrace_enabled=1"},
		{"TS9207", KindError, "the kernel takes signed modules only, and this live patch is not signed", "let the build sign live patches (tsugictl build --sign-key), with a key that this kernel trusts"},
		{"TS9208", KindError, "the kernel does not trust the key that signed this live patch", "enrol the certificate of the signing key: mokutil --import CERT.der, then reboot and confirm on the console"},
		{"TS9210", KindError, "the kernel has crashed or found damage since it was booted", "reboot: nobody knows what locks and memory are worth after that"},
		{"TS9211", KindError, "a live patch is on its way in or out", "wait for its end: the kernel makes one transition at a time"},
		{"TS9212", KindError, "a live patch of someone else is loaded", "take it out with the tool that loaded it: a cumulative live patch would remove it silently"},
		{"TS9213", KindError, "the live patch is for another build of the kernel", "build or get the live patch for the kernel that runs here"},
		{"TS9214", KindError, "a module that the live patch changes is of another build than the one it was made for", "reload the module from the kernel's own package, or reboot"},
		{"TS9215", KindError, "someone else redirects a function that the live patch replaces", "stop the tracer, probe or BPF program that holds the function, and try again"},
		{"TS9216", KindError, "there is too little free memory", "free some memory: a failed load is harmless, but a machine this short of memory has another trouble first"},
		{"TS9217", KindError, "there is too little free space on the disk", "free some space below the agent's directory"},
		{"TS9218", KindError, "live patching is turned off on the kernel's command line", "remove tsugi=off from the kernel's command line and reboot"},
		{"TS9219", KindError, "the module of the live patch is not for this kernel", "build or get the live patch for the kernel that runs here"},
		{"TS9220", KindError, "a live patch of this name is loaded already", "nothing is to be done if it is the same one; else take it out first"},
		{"TS9221", KindError, "this system runs in a container and has no kernel of its own", "install the agent on the host: its live patches protect the containers too"},
		{"TS9222", KindError, "this process may not load modules", "run it as root, with CAP_SYS_MODULE"},
		{"TS9223", KindError, "the module of the live patch cannot be read", "get the live patch again"},
		{"TS9224", KindError, "a module that the live patch changes was loaded by force", "load the module of the kernel's own package without force: modprobe -r and modprobe"},
		{"TS9230", KindError, "this system cannot be read", "run this on Linux with /proc mounted"},
		{"TS9240", KindRisk, "a probe on a replaced function will not see it any more", "set the probe again on the new function once the live patch is applied"},
		{"TS9241", KindRisk, "the live patch does not say which builds of the modules it changes it was made for", "build it again with this version of Tsugi; until then only the kernel's own build is compared"},
		{"TS9242", KindRisk, "the kernel has trouble on record", "look at the kernel's log; live patching works all the same"},
		{"TS9243", KindRisk, "something that matters cannot be seen here", "run this as root, with debugfs, tracefs and securityfs mounted"},
		{"TS9244", KindRisk, "unsigned modules will be refused here", "give the builds a signing key and enrol its certificate on this machine before live patches are sent to it"},
		{"TS9245", KindRisk, "a module on the disk is not of the running kernel", "reboot into the installed kernel when you can: until then do not load this module"},
		// TS93xx: loading and reverting
		{"TS9301", KindError, "the kernel did not take the live patch", "see what the kernel said; do not load this live patch again before that is understood"},
		{"TS9302", KindError, "the kernel refused the module's signature", "sign the live patch with a key that this kernel trusts, or enrol the key: mokutil --import CERT.der, then reboot"},
		{"TS9303", KindError, "the kernel says that the module is not for it", "build or get the live patch for the kernel that runs here"},
		{"TS9304", KindError, "the kernel is busy with another transition", "try again when it is over"},
		{"TS9305", KindError, "a function of the live patch is held by someone else", "stop the tracer, probe or BPF program that holds it, and try again"},
		{"TS9306", KindError, "the kernel has a module of this name already", "take it out first, or wait until the kernel has let go of it"},
		{"TS9307", KindError, "the kernel does not allow to load modules", "run it as root with CAP_SYS_MODULE; look at what security modules (IMA, LoadPin, SELinux) forbid"},
		{"TS9308", KindError, "the kernel had no memory for the live patch", "free some memory and try again"},
		{"TS9309", KindError, "the transition did not end in time", "see which tasks hold it; it ends when they leave the functions that are replaced"},
		{"TS9310", KindError, "no such live patch is loaded", "look at what there is: /sys/kernel/livepatch"},
		{"TS9311", KindError, "the live patch was taken out or turned round while it was waited for", "look who else handles live patches on this machine, and try again"},
		{"TS9312", KindError, "the kernel does not let the live patch go", "see what the kernel said; a reboot takes it out for sure"},
		{"TS9313", KindError, "the module of the live patch cannot be unloaded", "it does nothing any more; something still holds it, and it leaves with the next boot"},
		{"TS9314", KindError, "the kernel's log cannot be read", "run it as root; look at kernel.dmesg_restrict"},
	}
}
