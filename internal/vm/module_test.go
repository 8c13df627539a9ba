// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/klauspost/compress/zstd"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// files is a source of modules that are files of a directory.
type files string

func (d files) ModulePath(name string) (string, bool) {
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		p := filepath.Join(string(d), name+".ko"+ext)
		if _, err := os.Stat(p); err == nil {
			return p, true
		}
	}
	return "", false
}

// object compiles an object that has the given .modinfo strings.
func object(t testing.TB, info ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	src := `__attribute__((section(".modinfo"), used)) static const char info[] = "` + strings.Join(info, `\0`) + "\";\n"
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "m.c"), []byte(src), 0o600)))
	out, err := exec.CommandContext(t.Context(), "gcc", "-c", "-o", filepath.Join(dir, "m.o"), filepath.Join(dir, "m.c")).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	b, err := os.ReadFile(filepath.Join(dir, "m.o"))
	qt.Assert(t, qt.IsNil(err))
	return b
}

func (d files) write(t testing.TB, file string, b []byte) {
	t.Helper()
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(string(d), file), b, 0o600)))
}

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	d := files(t.TempDir())
	d.write(t, "ext4.ko", object(t, "name=ext4", "depends=jbd2,mbcache", "softdep=pre: crypto-crc32c post: other", "alias=fs-ext4"))
	d.write(t, "jbd2.ko", object(t, "depends=mbcache", "name=jbd2"))
	d.write(t, "mbcache.ko", object(t, "depends=", "name=mbcache"))
	d.write(t, "crc32c_generic.ko", object(t, "depends=", "name=crc32c_generic"))
	d.write(t, "other.ko", object(t, "name=other"))
	m := &image{files: map[string]File{}, links: map[string]string{}}
	qt.Assert(t, qt.IsNil(m.addModules(&Config{Modules: []string{"ext4", "jbd2"}, ModuleSource: d})))
	x, err := wire.ParseModuleIndex(m.files[wire.ModulesPath].Data)
	qt.Assert(t, qt.IsNil(err))
	got, _ := json.Marshal(x)
	qt.Check(t, qt.Equals(string(got), `{"modules":[`+
		`{"name":"crc32c_generic","path":"/lib/modules/tsugi/crc32c_generic.ko"},`+
		`{"name":"mbcache","path":"/lib/modules/tsugi/mbcache.ko"},`+
		`{"name":"jbd2","path":"/lib/modules/tsugi/jbd2.ko","needs":["mbcache"]},`+
		`{"name":"ext4","path":"/lib/modules/tsugi/ext4.ko","needs":["crc32c_generic","mbcache","jbd2"],"aliases":["fs-ext4"]}]}`))
}

func TestModulesThatCannotBeGivenAreNamed(t *testing.T) {
	d := files(t.TempDir())
	d.write(t, "a.ko", object(t, "name=a", "depends=b"))
	d.write(t, "b.ko", object(t, "name=b", "depends=a"))
	d.write(t, "needy.ko", object(t, "name=needy", "depends=missing"))
	d.write(t, "alias.ko", object(t, "name=another"))
	d.write(t, "text.ko", []byte("not an object"))
	d.write(t, "nameless.ko", object(t, "license=GPL"))
	for name, want := range map[string]string{
		"a": ".*depends on itself.*", "needy": ".*missing.*needy needs it.*", "absent": ".*no such module.*",
		"alias": ".*says that it is another.*", "text": ".*not an ELF object.*", "nameless": ".*no name.*",
	} {
		t.Run(name, func(t *testing.T) {
			r := &resolver{src: d, loaded: map[string]*module{}}
			_, err := r.order(name)
			qt.Check(t, qt.ErrorMatches(err, want))
			qt.Check(t, qt.Equals(code.Of(err), "TS6005"))
		})
	}
}

func TestModulesAreUnpackedWhateverTheirFormat(t *testing.T) {
	plain := object(t, "name=m")
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write(plain)
	_ = w.Close()
	enc, err := zstd.NewWriter(nil)
	qt.Assert(t, qt.IsNil(err))
	cmd := exec.CommandContext(t.Context(), "xz", "--check=crc32", "--lzma2=dict=1MiB", "-c")
	cmd.Stdin = bytes.NewReader(plain)
	xz, err := cmd.Output()
	qt.Assert(t, qt.IsNil(err))
	for ext, b := range map[string][]byte{"": plain, ".gz": gz.Bytes(), ".zst": enc.EncodeAll(plain, nil), ".xz": xz} {
		d := files(t.TempDir())
		d.write(t, "m.ko"+ext, b)
		p, _ := d.ModulePath("m")
		m, err := readModule(p)
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%q", ext))
		qt.Check(t, qt.IsTrue(bytes.Equal(m.data, plain)), qt.Commentf("%q", ext))
		if ext != "" {
			d.write(t, "m.ko"+ext, b[:len(b)/2])
			_, err = readModule(p)
			qt.Check(t, qt.IsNotNil(err), qt.Commentf("half of %q", ext))
		}
	}
}

func FuzzParseModule(f *testing.F) {
	f.Add(object(f, "name=ext4", "depends=jbd2,mbcache", "softdep=pre: crypto-crc32c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseModule(b)
		if (err == nil) != (m != nil) {
			t.Fatal("neither a module nor an error, or both")
		}
	})
}
