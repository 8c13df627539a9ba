// SPDX-License-Identifier: Apache-2.0

package process

import (
	"encoding/hex"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// prepared is a splice.File with what is the same in all processes.
type prepared struct {
	*splice.File
	digest string
	sums   [][32]byte // of the functions
	slots  []uint64
	quiet  bool // some function wants all old code to be left
}

// prepare checks a patch once for all processes. What is wrong with it is an
// error of the call and no process's fault.
func prepare(patch Patch) (map[string]*prepared, error) {
	files := make(map[string]*prepared, len(patch.Files))
	if patch.ID == "" || len(patch.ID) > maxText {
		return nil, code.New("TS9649", patch.ID, fmt.Sprintf("a name of %d bytes", len(patch.ID)))
	}
	for _, f := range patch.Files {
		if err := f.Check(); err != nil {
			return nil, err
		}
		if len(f.Functions) > maxRecords/2 { // a replaced patch may have as many that this one has not
			return nil, code.New("TS9649", f.Name, fmt.Sprintf("%d functions", len(f.Functions)))
		}
		if files[f.BuildID] != nil {
			return nil, code.New("TS9649", f.Name, "two files of one build-id")
		}
		digest, err := f.Digest()
		if err != nil {
			return nil, err
		}
		p := &prepared{File: f, digest: digest, slots: f.Slots(), sums: make([][32]byte, len(f.Functions))}
		for i := range f.Functions {
			if n, err := hex.Decode(p.sums[i][:], []byte(f.Functions[i].SHA256)); err != nil || n != 32 {
				return nil, code.New("TS9649", f.Name, "a digest that is none")
			}
			p.quiet = p.quiet || f.Functions[i].Policy != splice.EntryOnly
		}
		files[f.BuildID] = p
	}
	return files, nil
}
