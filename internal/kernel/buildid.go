// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"debug/elf"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

// ModuleBuildID returns the GNU build-id of a module by the kernel's name for
// it, in hex; "" when the module has none, as those of kernels linked without
// --build-id.
func (t *Target) ModuleBuildID(name string) (string, error) {
	path, ok := t.ModulePath(name)
	if !ok {
		return "", fmt.Errorf("target %s: no module %s", t.Name, name)
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("module %s: %w", name, err)
	}
	defer f.Close()
	s := f.Section(".note.gnu.build-id")
	if s == nil {
		return "", nil
	}
	const most = 4096
	if s.Size > most {
		return "", fmt.Errorf("module %s: its build-id note has %d bytes", name, s.Size)
	}
	note, err := s.Data()
	if err != nil {
		return "", fmt.Errorf("module %s: %w", name, err)
	}
	id, err := hostinfo.ParseBuildID(note)
	if err != nil {
		return "", fmt.Errorf("module %s: %w", name, err)
	}
	return id, nil
}
