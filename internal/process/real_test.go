// SPDX-License-Identifier: Apache-2.0

package process

import (
	"crypto/sha256"
	"crypto/tls"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/insn"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// copies makes a payload that replaces many functions of a real file by copies
// of themselves elsewhere: whoever calls them must see no difference.
func copies(t testing.TB, path string, limit int) *splice.File {
	t.Helper()
	r, err := os.Open(path)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	lib, err := dso.Open(r)
	qt.Assert(t, qt.IsNil(err))
	symbols, err := lib.DynamicSymbols()
	qt.Assert(t, qt.IsNil(err))
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(symbols), func(i, k int) { symbols[i], symbols[k] = symbols[k], symbols[i] })
	f := &splice.File{Format: splice.Format, BuildID: lib.BuildID, Name: filepath.Base(path), Path: path}
	for _, s := range lib.Segments {
		f.Segments = append(f.Segments, splice.Segment{Vaddr: s.Vaddr, Memsz: s.Memsz, Filesz: s.Filesz, Flags: s.Flags})
	}
	var taken []span
	for _, s := range symbols {
		of := span{s.Value, s.Value + s.Size}
		if len(f.Functions) == limit || !s.Defined() || s.Type != elf.STT_FUNC || s.Size < 16 || s.Size > 1<<14 || s.Value/pageSize != (s.Value+4)/pageSize ||
			slices.ContainsFunc(taken, of.overlaps) {
			continue
		}
		code, err := lib.Bytes(s.Value, s.Size)
		qt.Assert(t, qt.IsNil(err))
		at := uint32(len(f.Text))
		relocs, ok := moved(code, s.Value, at)
		if !ok {
			continue
		}
		taken = append(taken, of)
		sum := sha256.Sum256(code)
		f.Functions = append(f.Functions, splice.Function{
			Name: s.Name, Old: s.Value, Size: uint32(s.Size), Room: uint32(s.Size), SHA256: hex.EncodeToString(sum[:]),
			New: at, NewSize: uint32(s.Size), Policy: splice.EntryOnly,
		})
		f.Relocs = append(f.Relocs, relocs...)
		f.Text = append(f.Text, code...)
		f.Text = append(f.Text, slices.Repeat([]byte{0xcc}, (16-len(f.Text)%16)%16)...)
	}
	slices.SortFunc(f.Functions, func(a, b splice.Function) int { return int(int64(a.Old) - int64(b.Old)) })
	qt.Assert(t, qt.IsNil(f.Check()))
	return f
}

// moved gives the relocations of a function that is copied: what it refers to
// outside of itself. It says no where a copy would not be the same.
func moved(code []byte, vaddr uint64, at uint32) (relocs []splice.Reloc, ok bool) {
	ok = true
	err := insn.Walk(code, func(off int, in insn.Inst) error {
		field, to := 0, int64(0)
		switch {
		case in.RelSize > 0:
			to = in.Target(off)
			if to > 0 && to < jumpSize {
				ok = false
			}
			if to >= 0 && to < int64(len(code)) {
				return nil
			}
			ok = ok && in.RelSize == 4
			field = in.RelOff
		case in.RIPRel:
			field, to = in.DispOff, int64(off+in.Len)+in.Disp
		case in.Kind == insn.IndirectJump && in.Mod() == 3: // by a table, maybe
			ok = false
		default:
			return nil
		}
		relocs = append(relocs, splice.Reloc{
			Area: splice.InText, Offset: at + uint32(off+field), Kind: splice.PC32,
			Ref: splice.Ref{Kind: splice.RefTarget, Value: vaddr + uint64(to)}, Addend: -int64(in.Len - field),
		})
		return nil
	})
	return relocs, ok && err == nil
}

// hammer puts a patch into processes and takes it out, by patchers that are
// killed at random.
func hammer(t *testing.T, ids func() []proc.ID, p Patch, kills int, locks string) {
	t.Helper()
	does := []string{"copy %d none " + locks + " " + encoded(t, p), "revert %d none " + locks}
	all := 0
	for range kills {
		now := ids()
		pid := now[rand.IntN(len(now))].PID
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", patcherEnv, pid, fmt.Sprintf(does[rand.IntN(2)], 1<<30)))
		qt.Assert(t, qt.IsNil(cmd.Start()))
		time.Sleep(5*time.Millisecond + rand.N(80*time.Millisecond))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if cmd.ProcessState.Success() {
			all++
		}
	}
	t.Logf("%d of %d patchers came to their end", all, kills)
	e := New(Config{Locks: locks, Ptrace: patient})
	results, err := e.Many(t.Context(), ids(), p, Options{Budget: 30 * time.Second})
	qt.Assert(t, qt.IsNil(err))
	for _, r := range results {
		qt.Check(t, qt.IsTrue(r.State == Applied || r.State == Ended), qt.Commentf("%v", r.Reason))
	}
}

// TestPostgreSQLUnderKills: pgbench runs against a server whose processes are
// patched by patchers that are killed. No transaction may fail.
func TestPostgreSQLUnderKills(t *testing.T) {
	bin := "/usr/lib/postgresql/15/bin/"
	who, err := user.Lookup("postgres")
	if _, statErr := os.Stat(bin + "postgres"); !long() || statErr != nil || err != nil {
		t.Skip("set TSUGI_TEST_LONG=1 on a machine with postgresql-15")
	}
	built(t)
	dir, err := os.MkdirTemp("", "tsugi-pg")
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { os.RemoveAll(dir) })
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	qt.Assert(t, qt.IsNil(os.Chown(dir, uid, gid)))
	as := func(args ...string) *exec.Cmd {
		cmd := exec.Command(bin+args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PGHOST="+dir, "PGDATABASE=postgres", "HOME="+dir, "LC_ALL=C")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}
	run := func(args ...string) string {
		out, err := as(args...).CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%v: %s", args, out))
		return string(out)
	}
	run("initdb", "-D", dir+"/data", "-A", "trust")
	server := as("postgres", "-D", dir+"/data", "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=20")
	log, err := os.Create(dir + "/log")
	qt.Assert(t, qt.IsNil(err))
	defer log.Close()
	server.Stderr = log
	qt.Assert(t, qt.IsNil(server.Start()))
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
	})
	for i := 0; as("pg_isready").Run() != nil; i++ {
		qt.Assert(t, qt.IsTrue(i < 100))
		time.Sleep(100 * time.Millisecond)
	}
	run("pgbench", "-i", "-q")
	patch := Patch{"copies", []*splice.File{copies(t, bin+"postgres", 1500)}}
	t.Logf("%d functions", len(patch.Files[0].Functions))

	kills := 1000
	bench := as("pgbench", "-n", "-c", "4", "-j", "2", "-T", "90")
	var out strings.Builder
	bench.Stdout, bench.Stderr = &out, &out
	qt.Assert(t, qt.IsNil(bench.Start()))
	hammer(t, func() []proc.ID {
		table, err := proc.Scan(t.Context())
		qt.Assert(t, qt.IsNil(err))
		var ids []proc.ID
		for _, e := range table {
			if e.PID == server.Process.Pid || e.Parent == server.Process.Pid {
				ids = append(ids, e.ID)
			}
		}
		return ids
	}, patch, kills, t.TempDir())
	qt.Assert(t, qt.IsNil(bench.Wait()), qt.Commentf("%s", out.String()))
	t.Log(out.String())
	qt.Assert(t, qt.IsTrue(strings.Contains(out.String(), "number of failed transactions: 0 ")), qt.Commentf("%s", out.String()))
	text, err := os.ReadFile(dir + "/log")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsFalse(strings.Contains(string(text), "terminated by signal")), qt.Commentf("%s", text))
}

// TestOpenSSLUnderKills: the same with openssl s_server, whose every answer is read.
func TestOpenSSLUnderKills(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if !long() || err != nil {
		t.Skip("set TSUGI_TEST_LONG=1 on a machine with openssl")
	}
	built(t)
	dir := t.TempDir()
	out, err := exec.Command(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", dir+"/key", "-out", dir+"/cert").CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	server := exec.Command(openssl, "s_server", "-www", "-key", dir+"/key", "-cert", dir+"/cert", "-accept", "127.0.0.1:44330", "-quiet")
	qt.Assert(t, qt.IsNil(server.Start()))
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	get := func() error {
		conn, err := tls.Dial("tcp", "127.0.0.1:44330", &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		b, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.0 200") {
			return fmt.Errorf("%w: %q", err, b[:min(len(b), 80)])
		}
		return nil
	}
	for i := 0; get() != nil; i++ {
		qt.Assert(t, qt.IsTrue(i < 100))
		time.Sleep(50 * time.Millisecond)
	}
	p, err := proc.Open(t.Context(), server.Process.Pid)
	qt.Assert(t, qt.IsNil(err))
	defer p.Close()
	patch := Patch{ID: "copies"}
	objects, err := p.Objects(t.Context())
	qt.Assert(t, qt.IsNil(err))
	for _, o := range objects {
		if strings.HasPrefix(o.Name, "libcrypto.so") {
			patch.Files = append(patch.Files, copies(t, o.Path, 1500))
		}
	}
	qt.Assert(t, qt.HasLen(patch.Files, 1))
	t.Logf("%d functions", len(patch.Files[0].Functions))
	var stop atomic.Bool
	var gets atomic.Int64
	var load sync.WaitGroup
	for range 2 {
		load.Go(func() {
			for !stop.Load() {
				if err := get(); err != nil {
					t.Errorf("after %d answers: %v", gets.Load(), err)
					return
				}
				gets.Add(1)
			}
		})
	}
	hammer(t, func() []proc.ID { return []proc.ID{p.ID()} }, patch, 1000, t.TempDir())
	stop.Store(true)
	load.Wait()
	t.Logf("%d answers", gets.Load())
}
