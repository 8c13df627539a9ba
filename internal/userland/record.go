// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// The recorder stands in the place of the compilers and of ar: under every name
// that they have, absolute or found in PATH, it writes down how it was called,
// and runs what it stands for.

// recorded are the programs, whose other names are links to these.
var recorded = regexp.MustCompile(`^x86_64-linux-gnu-(gcc-[0-9]+|g\+\+-[0-9]+|ar)$`)

// realSuffix is what the name of a recorded program ends in.
const realSuffix = ".tsugi"

// logDir is where records go in the room of a build; without it there are none.
const logDir = "/tsugi/log"

// recorderScript writes one file for each run: the working directory, the name
// it was called by and the arguments, each ended by a zero byte. The file is
// made first (set -C, O_EXCL), because a process id comes again. The compiler
// keeps its name, which it prints as its version: programs have that in them.
// With TSUGI_STUB it makes an empty object instead of compiling.
const recorderScript = `#!/bin/bash
# Made by Tsugi: writes down how %[1]s was called, and runs it.
if [ -d ` + logDir + ` ]; then
	cd -P . # PWD without links
	set -C
	n=0
	until { : >"` + logDir + `/$$.$n"; } 2>&-; do
		n=$((n + 1))
		[ "$n" -lt 1000 ] || { echo "the recorder of %[1]s can't write to ` + logDir + `" >&2; exit 70; }
	done
	set +C
	printf '%%s\0' "$PWD" "$0" "$@" >"` + logDir + `/$$.$n" || exit 70
fi
if [ -n "${TSUGI_STUB-}" ]; then
	compile= object= deps= last=
	for a; do
		case $last in -o) object=$a ;; -MF) deps=$a ;; esac
		[ "$a" != -c ] || compile=1
		last=$a
	done
	if [ -n "$compile" ] && [ -n "$object" ]; then
		: >"$object"
		[ -z "$deps" ] || : >"$deps"
		exit 0
	fi
fi
exec -a "$0" /usr/bin/%[1]s` + realSuffix + ` "$@"
`

// placeRecorder puts the recorder in the place of the compilers of a root.
func placeRecorder(bin string) error {
	entries, err := os.ReadDir(bin)
	if err != nil {
		return err
	}
	compilers := 0
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), realSuffix)
		if !recorded.MatchString(name) || !e.Type().IsRegular() {
			continue
		}
		if !strings.HasSuffix(name, "ar") {
			compilers++
		}
		path := filepath.Join(bin, name)
		if name == e.Name() { // else an interrupted run had got so far
			if _, err := os.Lstat(path + realSuffix); err == nil {
				continue
			}
			if err := os.Rename(path, path+realSuffix); err != nil {
				return err
			}
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, recorderScript, name), 0o755); err != nil {
			return kernel.DiskError(path, err)
		}
	}
	if compilers == 0 {
		return code.New("TS3534", bin, "no compiler that Tsugi knows is in it")
	}
	return nil
}
