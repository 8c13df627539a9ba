// SPDX-License-Identifier: Apache-2.0

package update

// common tells a word of subjects that says nothing of where.
func common(w string) bool {
	switch w {
	case "the", "and", "for", "with", "from", "into", "not", "when", "that", "this", "are", "was", "use",
		"using", "used", "fix", "fixes", "fixed", "avoid", "prevent", "ensure", "make", "don", "doesn", "add",
		"adds", "added", "remove", "removes", "removed", "check", "checks", "missing", "potential", "possible",
		"before", "after", "null", "pointer", "dereference", "deref", "leak", "leaks", "memory", "free", "error",
		"errors", "path", "paths", "handling", "handle", "bug", "out", "bounds", "bound", "read", "write",
		"access", "race", "between", "during", "only", "properly", "correct", "correctly", "wrong", "invalid",
		"return", "value", "values", "ret", "err", "int", "void", "static", "struct", "const", "char", "unsigned",
		"long", "bool", "true", "false", "case", "break", "goto", "else", "while", "sizeof":
		return true
	}
	return false
}

// foreign tells a word that names an architecture that an x86 source package's
// fixes are not of; their code is not in the source that a target keeps.
func foreign(w string) bool {
	switch w {
	case "arm", "arm64", "arm*", "armel", "armhf", "riscv", "riscv64", "s390", "s390x", "powerpc", "ppc64el",
		"ppc64", "mips", "mips*", "loongarch", "loong64", "parisc", "hppa", "sparc", "sparc64", "alpha", "sh",
		"sh4", "xtensa", "um", "m68k", "ia64", "csky", "arc", "openrisc", "nios2", "hexagon", "pseries", "powernv",
		"papr", "pnv_php":
		return true
	}
	return false
}

// aliases are words of the paths that a name of subsystems in subjects means.
func aliases(w string) []string {
	switch w {
	case "alsa":
		return []string{"sound"}
	case "asoc":
		return []string{"soc"}
	case "usb-audio":
		return []string{"usb", "sound"}
	case "line6":
		return []string{"line6"}
	case "hda":
		return []string{"hda", "pci"}
	case "ksmbd":
		return []string{"server"}
	case "smb":
		return []string{"smb"}
	case "cifs":
		return []string{"client", "smb"}
	case "smb3":
		return []string{"client"}
	case "nfsv4", "nfsv4.1":
		return []string{"nfs4", "nfs"}
	case "nfsv3":
		return []string{"nfs3", "nfs"}
	case "sunrpc":
		return []string{"sunrpc"}
	case "rdma", "ib":
		return []string{"infiniband"}
	case "wifi", "cfg80211":
		return []string{"wireless"}
	case "netfilter":
		return []string{"netfilter"}
	case "mac80211":
		return []string{"mac80211"}
	case "kvm":
		return []string{"kvm"}
	case "x86":
		return []string{"x86"}
	case "vmx":
		return []string{"vmx"}
	case "svm":
		return []string{"svm"}
	case "nvmx":
		return []string{"vmx", "nested"}
	case "nsvm":
		return []string{"svm", "nested"}
	case "sev":
		return []string{"sev"}
	case "perf":
		return []string{"events"}
	case "sched_ext":
		return []string{"ext"}
	case "psi":
		return []string{"psi"}
	case "memcg":
		return []string{"memcontrol"}
	case "gfs2":
		return []string{"gfs2"}
	case "usb":
		return []string{"usb"}
	case "xhci":
		return []string{"xhci"}
	case "typec":
		return []string{"typec"}
	case "net_sched":
		return []string{"sched"}
	case "ipv4", "inet":
		return []string{"ipv4"}
	case "ipv6":
		return []string{"ipv6"}
	case "tcp":
		return []string{"tcp", "ipv4"}
	case "udp":
		return []string{"udp", "ipv4"}
	case "xsk":
		return []string{"xdp"}
	case "blk-mq":
		return []string{"blk-mq", "block"}
	case "dm":
		return []string{"dm", "md"}
	case "md", "raid":
		return []string{"md"}
	case "nvmet":
		return []string{"nvme", "target"}
	case "thunderbolt":
		return []string{"thunderbolt"}
	case "hid":
		return []string{"hid"}
	case "iommu":
		return []string{"iommu"}
	case "vt-d":
		return []string{"intel"}
	case "efi":
		return []string{"efi"}
	case "apparmor":
		return []string{"apparmor"}
	case "landlock":
		return []string{"landlock"}
	case "ima":
		return []string{"integrity"}
	case "tracing":
		return []string{"trace"}
	case "ftrace":
		return []string{"ftrace"}
	case "lockd":
		return []string{"lockd"}
	case "nouveau":
		return []string{"nouveau"}
	case "i915":
		return []string{"i915"}
	case "vsock":
		return []string{"vmw_vsock"}
	case "staging":
		return []string{"staging"}
	case "mm":
		return []string{"mm"}
	case "keys":
		return []string{"keys"}
	case "tls":
		return []string{"tls"}
	case "xfrm":
		return []string{"xfrm"}
	case "esp":
		return []string{"esp4", "esp6"}
	case "l2cap":
		return []string{"l2cap_core"}
	case "iso":
		return []string{"iso"}
	case "sco":
		return []string{"sco"}
	case "rfcomm":
		return []string{"rfcomm"}
	case "mgmt":
		return []string{"mgmt"}
	case "can":
		return []string{"can"}
	case "hv_netvsc":
		return []string{"netvsc"}
	case "drivers", "hyperv", "vmbus":
		return []string{"hv"}
	case "svcrdma":
		return []string{"xprtrdma", "svc"}
	case "xprtrdma", "rpcrdma":
		return []string{"xprtrdma"}
	case "hwrng":
		return []string{"hw_random"}
	case "bnxt_en":
		return []string{"bnxt"}
	case "functionfs":
		return []string{"f_fs"}
	case "ovl":
		return []string{"overlayfs"}
	case "fsverity":
		return []string{"verity"}
	case "fscrypt":
		return []string{"crypto"}
	case "mtd":
		return []string{"mtd"}
	case "ubi":
		return []string{"ubi"}
	case "cgroup":
		return []string{"cgroup"}
	case "iwlwifi":
		return []string{"iwlwifi"}
	case "powercap":
		return []string{"powercap"}
	case "amdkfd":
		return []string{"amdkfd"}
	case "sctp":
		return []string{"sctp"}
	case "mctp":
		return []string{"mctp"}
	case "libceph":
		return []string{"ceph", "net"}
	case "dccp":
		return []string{"dccp"}
	}
	return nil
}
