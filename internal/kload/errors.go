// SPDX-License-Identifier: Apache-2.0

package kload

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

// Situation is what else is known when the kernel refuses a module; it tells
// apart what one error number stands for.
type Situation struct {
	Said          string // by the kernel, about this module
	Transition    string // live patch that is in one; "" for none
	FtraceEnabled *bool
	Disabled      bool // kernel.modules_disabled
	Lockdown      string
	SigEnforce    *bool
	Stays         bool // a module of this name was made to stay in memory
}

// Meaning makes a problem of the error that loading a live patch ended with.
// It follows kernel/module/main.c, signing.c and kernel/livepatch/core.c.
func Meaning(name string, err error, s Situation) *code.Problem {
	no, ok := errors.AsType[unix.Errno](err)
	if !ok {
		return code.New("TS9301", name, s.Said).With(err)
	}
	say := func(c code.Code, why string) *code.Problem {
		if s.Said != "" {
			if why != "" {
				why += "; "
			}
			why += "the kernel said: " + s.Said
		}
		return code.New(c, name, why).With(err)
	}
	switch no {
	case unix.EKEYREJECTED, unix.ENOKEY, unix.ENOPKG, unix.EBADMSG, unix.EKEYREVOKED, unix.EKEYEXPIRED:
		return say("TS9302", signatureReason(no, s))
	case unix.ENOEXEC:
		return say("TS9303", "")
	case unix.EEXIST:
		if s.Stays {
			return say("TS9306", "it has been loaded since the last boot and stays in memory until the next one, since others may have pointers into it; a newer version can be loaded")
		}
		return say("TS9306", "")
	case unix.ENOMEM:
		return say("TS9308", "")
	case unix.EPERM, unix.EACCES:
		switch {
		case s.Disabled:
			return say("TS9204", "kernel.modules_disabled is 1, and stays so until the next boot")
		case s.Lockdown != "" && s.Lockdown != "none":
			return say("TS9302", "the kernel is locked down ("+s.Lockdown+"), which demands a signature by a key that it trusts")
		}
		return say("TS9307", "")
	case unix.ENODEV, unix.ENOSYS:
		return say("TS9202", "")
	case unix.EBUSY:
		switch {
		case s.Transition != "":
			return say("TS9304", "live patch "+s.Transition+" is in transition")
		case s.FtraceEnabled != nil && !*s.FtraceEnabled:
			return say("TS9206", "kernel.ftrace_enabled is 0")
		}
		return say("TS9305", "")
	}
	return say("TS9301", "")
}

func signatureReason(no unix.Errno, s Situation) string {
	switch no {
	case unix.EBADMSG:
		return "the signature is damaged, or is not of these bytes"
	case unix.ENOPKG:
		return "the signature is of a kind that this kernel cannot verify"
	case unix.EKEYREVOKED, unix.EKEYEXPIRED:
		return "the key is revoked or expired"
	}
	switch {
	case strings.Contains(s.Said, "unsigned module"):
		return "it carries no signature, and this kernel demands one"
	case strings.Contains(s.Said, "unavailable key"):
		return "it is signed with a key that is in none of the kernel's keyrings"
	case s.SigEnforce != nil && *s.SigEnforce:
		return "this kernel demands a signature by a key that it trusts"
	}
	return ""
}

// refused looks at the system once more to tell what the error means.
func (l *Loader) refused(name string, err error, said string) error {
	s := Situation{Said: said, Stays: l.Stays(name)}
	patches, _, _ := hostinfo.Livepatches(l.root)
	for _, p := range patches {
		if p.Transition {
			s.Transition = p.Name
		}
	}
	if v := value(filepath.Join(l.root, "proc/sys/kernel/ftrace_enabled")); v != "" {
		on := v != "0"
		s.FtraceEnabled = &on
	}
	s.Disabled = value(filepath.Join(l.root, "proc/sys/kernel/modules_disabled")) == "1"
	if v := value(filepath.Join(l.root, "sys/module/module/parameters/sig_enforce")); v != "" {
		on := v == "Y" || v == "1"
		s.SigEnforce = &on
	}
	if _, rest, ok := strings.Cut(value(filepath.Join(l.root, "sys/kernel/security/lockdown")), "["); ok {
		s.Lockdown, _, _ = strings.Cut(rest, "]")
	}
	return Meaning(name, fmt.Errorf("load %s: %w", ModuleName(name), err), s)
}
