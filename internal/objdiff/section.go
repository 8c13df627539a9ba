// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// class is what a section is for, as far as comparing goes.
type class uint8

const (
	ignored    class = iota // debug information, notes, annotations of tools
	special                 // an array whose entries belong to code
	parallel                // the table beside such an array
	text                    // code
	literals                // mergeable strings
	data                    // variables and constants
	bootText                // code that runs once and is gone
	bootData                // data that boot or module load reads once
	exitText                // code of module unload
	exportData              // symbol exports
	hookData                // section of <tsugi/livepatch.h>
	frames                  // .eh_frame, which tells the frames of functions
)

func (c class) code() bool { return c == text || c == bootText || c == exitText }

var ignoredPrefixes = []string{
	".comment", ".note", ".debug", ".BTF.", ".stab", ".eh_frame", ".llvm", ".gnu.", ".group", ".sframe",
	".modinfo", "__versions", ".rela", ".strtab", ".shstrtab", ".symtab", ".deps",
}

var bootTextPrefixes = []string{".init.text", ".head.text", ".meminit.text", ".cpuinit.text", ".devinit.text", ".ref.text.init"}

var bootDataPrefixes = []string{
	".init", ".initcall", ".con_initcall", "__param", ".meminit.", ".exit.data", ".exitcall", ".early_param",
	"__setup", ".x86_cpu_dev.init", ".apicdrivers", "__earlycon_table", "__ftr_", ".pci_fixup", "_ftrace_events",
	"__syscalls_metadata", "__tracepoints", "__tracepoints_ptrs", "_ftrace_eval_map", "__modver", "__kcrctab_init",
	".BTF_ids", ".security_lsm_info", ".lsm_info", "_kprobe_blacklist", "_error_injection",
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// classify names a section's class. Order matters: names decide before flags.
func (o *object) classify(s *elfobj.Section) class {
	switch {
	case s.Flags&elf.SHF_COMPRESSED != 0, s.Type == elf.SHT_GROUP, s.Type == elf.SHT_RELA, s.Type == elf.SHT_REL, s.Type == elf.SHT_STRTAB:
		return ignored
	case strings.HasPrefix(s.Name, ".tsugi."):
		return hookData
	case o.opt.Userland && s.Name == ".eh_frame":
		return frames
	case o.opt.Userland && loaderArray(s.Name) && s.Flags&elf.SHF_ALLOC != 0:
		return bootData
	case o.arch.IsParallel(s.Name):
		return parallel
	case s.Name == ".BTF", hasAnyPrefix(s.Name, ignoredPrefixes):
		return ignored
	}
	if _, ok := o.specialOf(s); ok {
		return special
	}
	if strings.HasPrefix(s.Name, ".discard") {
		return ignored
	}
	if s.Flags&elf.SHF_ALLOC == 0 {
		return ignored
	}
	if s.Exec() && s.Type != elf.SHT_NOBITS {
		switch {
		case hasAnyPrefix(s.Name, bootTextPrefixes):
			return bootText
		case strings.HasPrefix(s.Name, ".exit.text"), strings.HasPrefix(s.Name, ".memexit"):
			return exitText
		}
		return text
	}
	switch {
	case strings.HasPrefix(s.Name, "__ksymtab"), strings.HasPrefix(s.Name, "___ksymtab"),
		strings.HasPrefix(s.Name, "__kcrctab"), strings.HasPrefix(s.Name, "___kcrctab"), strings.HasPrefix(s.Name, ".export_symbol"):
		return exportData
	case hasAnyPrefix(s.Name, bootDataPrefixes):
		return bootData
	case s.Flags&elf.SHF_STRINGS != 0 && s.Flags&elf.SHF_MERGE != 0:
		return literals
	}
	return data
}

// readOnly reports whether nothing writes to the section while the kernel runs.
func readOnly(s *elfobj.Section) bool {
	return s.Flags&elf.SHF_WRITE == 0 || strings.HasPrefix(s.Name, ".data.rel.ro")
}
