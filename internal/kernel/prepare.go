// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// checkCompiler holds the local compiler of that name against the text that
// the kernel's configuration recorded (scripts/Kconfig.include, cc-version).
func checkCompiler(ctx context.Context, want string) error {
	cc, _, _ := strings.Cut(want, " ")
	if cc == "" {
		return code.New("TS2308", "CONFIG_CC_VERSION_TEXT", "the configuration does not tell the compiler")
	}
	if strings.Trim(cc, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") != "" {
		return code.New("TS2308", "CONFIG_CC_VERSION_TEXT", fmt.Sprintf("%q is not the name of a compiler", cc))
	}
	out, err := Command{Name: cc, Args: []string{"--version"}}.Run(ctx)
	if err != nil {
		return err
	}
	have, _, _ := strings.Cut(string(out), "\n")
	if have != want {
		return code.New("TS2308", cc, fmt.Sprintf("the kernel was built by %q, here is %q", want, have))
	}
	return nil
}

// buildTools are programs that modules_prepare and single objects need; each
// missing one is named before make fails in its own words.
var buildTools = []string{"make", "ld", "flex", "bison", "bc", "perl"}

// buildLibraries are header files of libraries that the tools link to.
var buildLibraries = []struct{ header, pkg string }{
	{"libelf.h", "libelf-dev"}, {"openssl/opensslv.h", "libssl-dev"},
}

func checkTools(ctx context.Context, cc string, c Config) error {
	tools := buildTools
	if c["CONFIG_PAHOLE_VERSION"] != "" && c["CONFIG_PAHOLE_VERSION"] != "0" {
		tools = append(tools[:len(tools):len(tools)], "pahole")
	}
	for _, tool := range tools {
		if _, err := (Command{Name: tool, Args: []string{"--version"}}).Run(ctx); code.Of(err) != "" {
			return err
		}
	}
	for _, lib := range buildLibraries {
		_, err := Command{
			Name: cc, Args: []string{"-E", "-x", "c", "-o", os.DevNull, "-"},
			Stdin: strings.NewReader("#include <" + lib.header + ">\n"),
		}.Run(ctx)
		if _, ok := errors.AsType[*ExitError](err); ok {
			return missingTool(lib.pkg)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changedOptions may differ from the shipped configuration: the keys are
// files that only the distribution has.
var changedOptions = map[string]string{
	"CONFIG_SYSTEM_TRUSTED_KEYS": "", "CONFIG_MODULE_SIG_KEY": "",
	"CONFIG_SYSTEM_REVOCATION_KEYS": "", "CONFIG_SYSTEM_BLACKLIST_HASH_LIST": "",
}

// toolOptions are probes of tools; their differences say what to install.
var toolOptions = map[string]string{
	"CONFIG_CC_VERSION_TEXT": "the compiler", "CONFIG_GCC_VERSION": "the compiler", "CONFIG_AS_VERSION": "binutils",
	"CONFIG_LD_VERSION": "binutils", "CONFIG_PAHOLE_VERSION": "dwarves",
}

// prepare makes the build directory of a target: the configuration, then
// make modules_prepare, then Module.symvers. Make itself keeps what an
// interrupted run has done.
func prepare(ctx context.Context, t *Target, headers string, jobs int, rep progress.Reporter) (err error) {
	done := filepath.Join(t.Build, ".tsugi-prepared")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	task := rep.Start("prepare source", 3, progress.Steps)
	defer func() { task.Done(err) }()
	if err := os.MkdirAll(t.Build, 0o755); err != nil {
		return DiskError(t.Build, err)
	}
	shipped, err := os.ReadFile(filepath.Join(headers, "config"))
	if err != nil {
		return err
	}
	task.Note("configure")
	if err := checkTools(ctx, t.CC(), t.config); err != nil {
		return err
	}
	if err := configure(ctx, t, shipped); err != nil {
		return err
	}
	task.Add(1)
	task.Note("make modules_prepare")
	if _, err := t.Make(ctx, fmt.Sprintf("-j%d", jobs), "modules_prepare"); err != nil {
		return makeProblem("TS2310", t.Name, err)
	}
	task.Add(1)
	task.Note("check")
	symvers, err := os.ReadFile(filepath.Join(headers, "Module.symvers"))
	if err != nil {
		return err
	}
	if _, err := ParseSymvers(symvers); err != nil {
		return code.New("TS2307", "linux-headers-"+t.Release, "").With(err)
	}
	if err := renameio.WriteFile(filepath.Join(t.Build, "Module.symvers"), symvers, 0o644); err != nil {
		return DiskError(t.Build, err)
	}
	if err := checkPrepared(t); err != nil {
		return err
	}
	task.Add(1)
	return DiskError(done, renameio.WriteFile(done, nil, 0o644))
}

// configure writes .config and lets kconfig complete it. Anything that
// kconfig then decides otherwise than the distribution did would give objects
// that are not the running code.
func configure(ctx context.Context, t *Target, shipped []byte) error {
	path := filepath.Join(t.Build, ".config")
	if err := renameio.WriteFile(path, emptyOptions(shipped, changedOptions), 0o644); err != nil {
		return DiskError(path, err)
	}
	if _, err := t.Make(ctx, "olddefconfig"); err != nil {
		return makeProblem("TS2310", t.Name, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	got, err := ParseConfig(b)
	if err != nil {
		return err
	}
	var differ, tools []string
	for _, d := range t.config.Compare(got) {
		if _, ok := changedOptions[d.Option]; ok {
			continue
		}
		if tool, ok := toolOptions[d.Option]; ok {
			tools = append(tools, fmt.Sprintf("%s (%s: built with %q, here %q)", tool, d.Option, d.Want, d.Got))
		}
		differ = append(differ, fmt.Sprintf("%s=%q became %q", d.Option, d.Want, d.Got))
	}
	if len(differ) == 0 {
		t.config = got
		return nil
	}
	p := code.New("TS2309", t.Name, some(differ, 6))
	switch {
	case t.config.Has("CONFIG_PREEMPT_RT") && !got.Has("CONFIG_PREEMPT_RT"):
		p.Fix = "choose a kernel without the realtime patches: linux-source does not hold them for this version"
	case len(tools) > 0:
		p.Fix = "install the version that built the kernel of " + some(tools, 6)
	}
	return p
}

// some joins the first n of a list and counts the rest.
func some(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:n], "; "), len(list)-n)
}

// emptyOptions sets string options that are set to the empty string.
func emptyOptions(config []byte, options map[string]string) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(config) {
		name, _, _ := strings.Cut(string(line), "=")
		if _, ok := options[name]; ok {
			fmt.Fprintf(&out, "%s=\"\"\n", name)
			continue
		}
		out.Write(line)
	}
	return out.Bytes()
}

// checkPrepared makes sure that the release is the target's own, and that
// objtool is there when objects need it.
func checkPrepared(t *Target) error {
	path := filepath.Join(t.Build, "include/generated/utsrelease.h")
	b, err := os.ReadFile(path)
	if err != nil {
		return code.New("TS2310", path, "").With(err)
	}
	if want := fmt.Sprintf("#define UTS_RELEASE %q\n", t.Release); !strings.HasPrefix(string(b), want) {
		return code.New("TS2310", path, fmt.Sprintf("it says %.60q", b))
	}
	if t.config.Has("CONFIG_OBJTOOL") {
		if _, err := os.Stat(filepath.Join(t.Build, "tools/objtool/objtool")); err != nil {
			return code.New("TS2310", t.Name, "objtool was not built").With(err)
		}
	}
	return nil
}

// Make runs make for the target with [Target.MakeArgs] and returns its output.
func (t *Target) Make(ctx context.Context, args ...string) ([]byte, error) {
	return Command{Name: "make", Args: append(t.MakeArgs(), args...)}.Run(ctx)
}

// makeProblem shows the lines of a failed make that say what went wrong.
func makeProblem(c code.Code, where string, err error) error {
	exit, ok := errors.AsType[*ExitError](err)
	if !ok {
		return err
	}
	if bytes.Contains(exit.Output, []byte("No space left on device")) {
		return code.New("TS9103", where, "").With(err)
	}
	return code.New(c, where, ErrorLines(exit.Output)).With(err)
}

// ErrorLines picks the messages out of a build's output: from the first line
// that tells an error on, at most 20 lines, without make's and kbuild's own.
func ErrorLines(out []byte) string {
	var lines []string
	for l := range strings.Lines(string(out)) {
		l = strings.TrimRight(l, "\n")
		own := strings.HasPrefix(l, "make[") || strings.HasPrefix(l, "make:")
		switch {
		case own && strings.Contains(l, "*** No rule"): // the cause, not an echo of it
		case own, strings.HasPrefix(l, "  ") && !strings.Contains(l, "|"): // kbuild's "  CC  x.o"
			continue
		case len(lines) == 0 && !strings.Contains(strings.ToLower(l), "error"):
			continue
		}
		if lines = append(lines, l); len(lines) == 20 {
			break
		}
	}
	return strings.Join(lines, "\n")
}
