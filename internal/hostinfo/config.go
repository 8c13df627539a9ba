// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"strings"
)

// Config are the options of the kernel's configuration that matter here, by
// name without CONFIG_; one that is not set is not there.
type Config map[string]string

// Has tells whether an option is y or m.
func (c Config) Has(option string) bool { return c[option] == "y" || c[option] == "m" }

func wanted(option string) bool {
	return slices.Contains([]string{
		"MODULES", "MODULE_UNLOAD", "MODVERSIONS", "MODULE_SIG", "MODULE_SIG_FORCE", "MODULE_SIG_HASH", "MODULE_SIG_ALL",
		"LIVEPATCH", "HAVE_LIVEPATCH", "HAVE_RELIABLE_STACKTRACE", "RELIABLE_STACKTRACE",
		"FTRACE", "FUNCTION_TRACER", "DYNAMIC_FTRACE", "DYNAMIC_FTRACE_WITH_REGS", "DYNAMIC_FTRACE_WITH_ARGS",
		"KALLSYMS", "KALLSYMS_ALL", "KPROBES", "UNWINDER_ORC", "UNWINDER_FRAME_POINTER", "STACK_VALIDATION",
		"SECURITY_LOCKDOWN_LSM", "SECURITY_LOADPIN", "IMA_APPRAISE", "INTEGRITY_PLATFORM_KEYRING", "INTEGRITY_MACHINE_KEYRING",
		"SECONDARY_TRUSTED_KEYRING", "X86_KERNEL_IBT", "PREEMPT_RT",
	}, option)
}

// ParseConfig reads a .config and keeps the options that matter. Lines that
// are not options are skipped: the file says nothing about the rest.
func ParseConfig(in io.Reader) (Config, error) {
	c := Config{}
	err := stream(in, func(line string) error {
		name, value, ok := strings.Cut(line, "=")
		name, isOption := strings.CutPrefix(name, "CONFIG_")
		if ok && isOption && wanted(name) {
			c[name] = strings.Trim(strings.TrimSpace(value), `"`)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// config looks where kernels and distributions keep it; nil when nowhere.
func (r *Reader) config(release string) Config {
	if strings.ContainsAny(release, "/\x00") {
		return nil
	}
	for _, p := range []string{
		"proc/config.gz", "boot/config-" + release, "lib/modules/" + release + "/config",
		"usr/lib/modules/" + release + "/config", "lib/modules/" + release + "/build/.config",
	} {
		b, err := r.bytes(p, maxSmall)
		if err != nil {
			if !absent(err) {
				r.note(p, err)
			}
			continue
		}
		var in io.Reader = bytes.NewReader(b)
		if strings.HasSuffix(p, ".gz") {
			if in, err = gzip.NewReader(in); err != nil {
				r.note(p, err)
				continue
			}
		}
		c, err := ParseConfig(in)
		if err == nil {
			return c
		}
		r.note(p, err)
	}
	return nil
}
