// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// builtin returns the verbs that every guest knows:
//
//	script    Script        run a shell script
//	modprobe  ["NAME", …]   load stored modules and what they need
//	insmod    Insert        load one .ko file
//	rmmod     "NAME"        unload a module
//	write     Write         write a string to a file, as sysctl settings are
//	read      ["PATH", …]   the contents of small files
//	dump      Dump          send a file of any size to the host
//	network   Network       load the network's driver, give it its address
func builtin() map[string]Verb {
	return map[string]Verb{
		"script": script, "modprobe": modprobe, "modprobe-any": modprobeAny, "insmod": insmod, "rmmod": rmmod,
		"write": write, "read": read, "dump": dump, "network": network,
	}
}

// Insert is the argument of the verb "insmod".
type Insert struct {
	Path   string `json:"path"`
	Params string `json:"params,omitempty"`
}

// Write is the argument of the verb "write".
type Write struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Dump is the argument of the verb "dump". Name is what the host calls it.
type Dump struct {
	Path string `json:"path"`
	Name string `json:"name"`
}

func modprobe(ctx context.Context, _ *Env, args json.RawMessage) (any, error) {
	var names []string
	if err := json.Unmarshal(args, &names); err != nil {
		return nil, err
	}
	all := []string{}
	for _, n := range names {
		loaded, err := Modprobe(n)
		all = append(all, loaded...)
		if err != nil {
			return all, err
		}
	}
	linkDisks()
	return all, ctx.Err()
}

// Tried is the result of the verb "modprobe-any", which loads as many modules
// as the kernel takes.
type Tried struct {
	Loaded  []string  `json:"loaded"`
	Refused []Refused `json:"refused,omitempty"`
}

// Refused is a module that the kernel did not take: its device is not there,
// say.
type Refused struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

func modprobeAny(ctx context.Context, _ *Env, args json.RawMessage) (any, error) {
	var names []string
	if err := json.Unmarshal(args, &names); err != nil {
		return nil, err
	}
	t := Tried{Loaded: []string{}}
	for _, n := range names {
		loaded, err := Modprobe(n)
		t.Loaded = append(t.Loaded, loaded...)
		if err != nil {
			t.Refused = append(t.Refused, Refused{n, err.Error()})
		}
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
	}
	linkDisks()
	return t, nil
}

func insmod(_ context.Context, _ *Env, args json.RawMessage) (any, error) {
	var a Insert
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	return nil, InsertModule(a.Path, a.Params)
}

func rmmod(_ context.Context, _ *Env, args json.RawMessage) (any, error) {
	var name string
	if err := json.Unmarshal(args, &name); err != nil {
		return nil, err
	}
	return nil, RemoveModule(name)
}

func write(_ context.Context, _ *Env, args json.RawMessage) (any, error) {
	var a Write
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	return nil, WriteString(a.Path, a.Text)
}

// WriteString writes to a file that exists, in one write, as the files of
// /proc and /sys want it.
func WriteString(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func read(_ context.Context, _ *Env, args json.RawMessage) (any, error) {
	var paths []string
	if err := json.Unmarshal(args, &paths); err != nil {
		return nil, err
	}
	out := make(map[string]string, len(paths))
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return out, err
		}
		out[p] = string(b[:min(len(b), 64<<10)])
	}
	return out, nil
}

// linkDisks names the virtio disks by the serial number that the host gave
// them: /dev/tsugi/NAME.
func linkDisks() {
	files, _ := filepath.Glob("/sys/block/*/serial")
	for _, f := range files {
		name := ReadLine(f)
		if name == "" || strings.ContainsAny(name, "/\x00") {
			continue
		}
		_ = os.MkdirAll("/dev/tsugi", 0o755)
		_ = os.Symlink("/dev/"+filepath.Base(filepath.Dir(f)), "/dev/tsugi/"+name)
	}
}

// dumper writes dumps to a raw disk as one tar stream.
type dumper struct {
	file *os.File
	tar  *tar.Writer
}

func dump(_ context.Context, env *Env, args json.RawMessage) (any, error) {
	var a Dump
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(a.Path) // files of /proc have no size to stream by
	if err != nil {
		return nil, err
	}
	result := map[string]int64{"size": int64(len(data))}
	if env.plan.Output == "" {
		return result, dumpEvents(env, a.Name, data)
	}
	if env.dump == nil {
		f, err := os.OpenFile(env.plan.Output, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		env.dump = &dumper{file: f, tar: tar.NewWriter(f)}
	}
	d := env.dump
	h := &tar.Header{Name: a.Name, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatPAX}
	if err := d.tar.WriteHeader(h); err != nil {
		return nil, err
	}
	if _, err := d.tar.Write(data); err != nil {
		return nil, err
	}
	if err := d.tar.Flush(); err != nil {
		return nil, err
	}
	return result, d.file.Sync()
}

// dumpEvents compresses first: the serial port is the slow part.
func dumpEvents(env *Env, name string, data []byte) error {
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	const part = 128 << 10
	for z.Len() > 0 {
		env.Emit(wire.Event{Kind: wire.Dump, Data: raw(wire.Chunk{Name: name, Gzip: z.Next(part)})})
	}
	env.Emit(wire.Event{Kind: wire.Dump, Data: raw(wire.Chunk{Name: name, End: true, Size: int64(len(data))})})
	return nil
}
