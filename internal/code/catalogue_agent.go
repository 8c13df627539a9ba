// SPDX-License-Identifier: Apache-2.0

package code

// TS94xx the agent: enrolment, cache, journal, local API; TS95xx health and the crash guard.
func agent() []Entry {
	return []Entry{
		{"TS9400", KindError, "the agent met an error that it has no name for", "look at the reason; journalctl -u tsugi has more"},
		{"TS9401", KindError, "the agent's configuration is not understood", "correct the file and check it: tsugi config check"},
		{"TS9402", KindError, "the agent cannot write its state", "make /var/lib/tsugi writable; nothing is loaded before that, and what is loaded stays"},
		{"TS9403", KindError, "the agent's journal is damaged", "check the disk; then put the journal aside with: tsugi clear journal (nothing is applied before that)"},
		{"TS9404", KindError, "this machine's enrolment cannot be read", "enrol again: tsugi enroll"},
		{"TS9405", KindError, "this is not the address of a server to enrol with", "give the word that tsugictl token new printed, or --server https://HOST:PORT with --token and --root-file"},
		{"TS9406", KindError, "a cached live patch cannot be used", "nothing: the agent fetches it again when it is online; if this comes back, check the disk"},
		{"TS9407", KindError, "the live patch is not what the signed index says, or not for this kernel", "do not load it by other means; report it to who runs the server"},
		{"TS9408", KindError, "another agent is running on this machine", "one is enough: systemctl status tsugi shows it"},
		{"TS9409", KindError, "this enrolment belongs to another machine", "enrol this one for itself: tsugi enroll (and leave /var/lib/tsugi out of images)"},
		{"TS9411", KindError, "this machine's clock is wrong, or the server's certificate is out of its time", "set the clock (timedatectl); what is applied stays, nothing new is loaded meanwhile"},
		{"TS9412", KindError, "somebody took the live patch out by other means", "it stays out until tsugi refresh, tsugi apply or a newer version; take out with tsugi revert next time"},
		{"TS9413", KindError, "nothing new is loaded before the signed metadata is fresh", "nothing: the agent tries again by itself; tsugi status says why it is not fresh"},
		{"TS9414", KindError, "this machine has no key for the live patch", "look at the machine's tier and plan on the server: tsugictl machine show"},
		{"TS9415", KindError, "the signed index forbids this live patch", "wait for a newer version; tsugi status shows what the index offers"},
		{"TS9416", KindError, "this machine is not enrolled", "enrol it: tsugi enroll WORD (tsugictl token new prints the word)"},
		{"TS9417", KindError, "the server cannot be told that this machine leaves", "try again when it answers, or leave without telling: tsugi unenroll --force"},
		{"TS9418", KindError, "no live patch is applied", "tsugi status shows what there is"},
		{"TS9419", KindError, "there is no such quarantine", "tsugi status lists what is in quarantine"},
		{"TS9420", KindError, "tsugi=off is on the kernel command line", "boot without it; until then nothing is loaded"},
		{"TS9421", KindError, "the live patch is applied already", "nothing is to be done"},
		{"TS9422", KindError, "the live patch is in quarantine on this machine", "read why (tsugi status), and let it in again with: tsugi clear ID"},
		{"TS9423", KindError, "the live patch is older than what this machine had", "only a signed revert leads back: tsugictl livepatch revert, by who runs the server"},
		{"TS9424", KindError, "the signed index of this machine does not hold this file", "publish it, or say that you vouch for it yourself: tsugi apply --local FILE"},
		{"TS9425", KindError, "the agent does not run", "start it: systemctl start tsugi"},
		{"TS9426", KindError, "only root may change this", "run the command with sudo"},
		{"TS9428", KindError, "two machines use this identity", "one of them is a copy: run tsugi enroll on it"},
		{"TS9429", KindError, "the bundle cannot be used", "make it again: tsugictl bundle"},
		{"TS9430", KindError, "the agent is still at it", "tsugi status shows how far it is; --timeout waits longer"},
		{"TS9431", KindError, "a fixed module of the live patch cannot be read", "do not apply the live patch by other means; report it to who runs the server"},
		{"TS9432", KindError, "a fixed module could not be put on the disk, or taken from it", "see the reason; the agent tries again at its next check-in, and the live patch itself is not concerned"},
		{"TS9433", KindError, "a module that is not in use could not be swapped for its fixed build", "nothing is to be done: the shipped module was loaded again; the fixed one comes with the next boot into a new kernel"},
		{"TS9434", KindError, "the module on the disk is not the one that the fixed module is for", "reboot into the installed kernel: its package was changed while this one ran"},
		{"TS9435", KindError, "modprobe does not find the fixed modules", "let depmod search updates (see depmod.d(5)), or turn fixed modules off: tsugi config set modules.off true"},
		{"TS9436", KindError, "the machine went down before a fixed module was confirmed", "see whether the module or the power was the reason; let it in again with: tsugi clear MODULE"},
		{"TS9437", KindError, "the kernel complained about a fixed module", "unload it or reboot: the shipped one loads then; let the fixed one in again with: tsugi clear MODULE"},
		{"TS9438", KindError, "a fixed module that was taken back still runs", "unload it, or reboot"},
		{"TS9440", KindError, "what keeps live patches in processes does not run on this machine", "start it: systemctl enable --now tsugi-keep; or leave packages out: tsugi config set processes.off true"},
		{"TS9441", KindError, "the keeper has not been through all processes in time", "it goes on by itself; journalctl -u tsugi-keep says what holds it up"},
		// TS95xx: health and the crash guard
		{"TS9501", KindError, "the transition did not end in time and was reversed", "the agent tries again by itself while it runs; end or restart the named tasks to let it through"},
		{"TS9502", KindError, "the live patch could not be taken out", "end or restart the named tasks; it is tried again by itself, and the next boot is without it"},
		{"TS9503", KindError, "the health watch found something, and the live patch was taken out", "look at the reason; let it in again with: tsugi clear ID"},
		{"TS9504", KindError, "the machine went down before the live patch was confirmed", "see whether the live patch or the power was the reason; let it in again with: tsugi clear ID"},
	}
}
