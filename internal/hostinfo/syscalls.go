// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// machine is uname -m.
func machine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// gone: a file of sysfs whose object is removed while it is open.
func gone(err error) bool { return errors.Is(err, unix.ENODEV) }

// readKeyring lists a keyring; it takes root, whose the kernel's keyrings are.
func readKeyring(serial int32) ([]int32, error) {
	buf := make([]byte, 4*maxItems)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, int(serial), buf, 0)
	if err != nil {
		return nil, err
	}
	if n > len(buf) {
		return nil, fmt.Errorf("%d bytes of keys", n)
	}
	var out []int32
	for b := buf[:n]; len(b) >= 4; b = b[4:] {
		out = append(out, int32(binary.NativeEndian.Uint32(b)))
	}
	return out, nil
}
