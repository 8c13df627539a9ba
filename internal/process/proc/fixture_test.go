// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bufio"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// cc compiles one program or library of testdata, once for all tests.
type compiled struct {
	once sync.Once
	path string
	out  string
	err  error
}

var (
	fixtures   sync.Map // by arguments
	fixtureDir = sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "tsugi-proc")
		if err == nil {
			err = os.Chmod(dir, 0o755) // tests run programs of it as nobody
		}
		return dir, err
	})
)

func cc(t *testing.T, name string, args ...string) string {
	t.Helper()
	need.Program(t, "gcc")
	dir, err := fixtureDir()
	qt.Assert(t, qt.IsNil(err))
	key := name + " " + strings.Join(args, " ")
	v, _ := fixtures.LoadOrStore(key, &compiled{path: filepath.Join(dir, name)})
	c := v.(*compiled)
	c.once.Do(func() {
		out, err := exec.Command("gcc", append([]string{"-O1", "-Wl,--build-id", "-o", c.path}, args...)...).CombinedOutput()
		c.out, c.err = string(out), err
	})
	if c.err != nil && slices.Contains(args, "-m32") {
		need.Allowed(t, "this gcc makes no 32-bit programs: ", c.out)
	}
	qt.Assert(t, qt.IsNil(c.err), qt.Commentf("%s", c.out))
	return c.path
}

// The programs that the tests use.
func pie(t *testing.T) string { return cc(t, "pie", "testdata/target.c", "-pthread") }

func library(t *testing.T) string {
	return cc(t, "libfixture.so", "-shared", "-fPIC", "-Wl,-soname,libfixture.so", "-DVERSION=1", "testdata/lib.c")
}

func linked(t *testing.T) string {
	lib := library(t)
	return cc(t, "linked", "-DLIBRARY", "-DDL", "-pthread", "testdata/target.c", lib, "-Wl,-rpath,"+filepath.Dir(lib))
}

// process is a program that runs, and where its things lie.
type process struct {
	*exec.Cmd
	in                    io.WriteCloser
	text, constant, third uint64
}

func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	return startAs(t, exec.Command(path, args...))
}

func startAs(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{Cmd: cmd}
	var err error
	p.in, err = cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	out, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	cmd.Stderr = os.Stderr
	qt.Assert(t, qt.IsNil(cmd.Start()))
	t.Cleanup(func() { p.end() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	if strings.HasPrefix(line, "no ") {
		if _, err := os.Stat("/proc/sys/vm/unprivileged_userfaultfd"); err == nil && line == "no userfaultfd\n" {
			need.Allowed(t, "this user has no userfaultfd, and the kernel has it")
		}
		t.Skipf("this kernel or user has %s", strings.TrimSpace(line))
	}
	_, err = fmt.Sscanf(line, "0x%x 0x%x 0x%x", &p.text, &p.constant, &p.third)
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%q", line))
	return p
}

// end closes the input, which ends it and its children, and collects it.
func (p *process) end() {
	p.in.Close()
	p.Process.Kill()
	p.Wait()
}

func (p *process) pid() int { return p.Process.Pid }

func hold(t *testing.T, pid int) *Process {
	t.Helper()
	p, err := Open(t.Context(), pid)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { p.Close() })
	return p
}

// idOf reads the build-id of a file by other means than the package.
func idOf(t *testing.T, path string) string {
	t.Helper()
	f, err := elf.Open(path)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	note, err := f.Section(".note.gnu.build-id").Data()
	qt.Assert(t, qt.IsNil(err))
	return hex.EncodeToString(note[16:])
}

// valueOf is the value of a symbol.
func valueOf(t *testing.T, path, name string) uint64 {
	t.Helper()
	f, err := elf.Open(path)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	syms, err := f.Symbols()
	qt.Assert(t, qt.IsNil(err))
	for _, s := range syms {
		if s.Name == name {
			return s.Value
		}
	}
	t.Fatalf("%s has no symbol %s", path, name)
	return 0
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// nobody is the command with the rights of nobody.
func nobody(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	needsRoot(t)
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

func TestMain(m *testing.M) {
	if pid := os.Getenv("TSUGI_TEST_LOOK_AT"); pid != "" {
		os.Exit(lookAt(pid))
	}
	n := m.Run()
	if dir, err := fixtureDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(n)
}
