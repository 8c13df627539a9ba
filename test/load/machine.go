// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
)

// credential is that of the machine with a number, in the form that
// internal/api gives credentials. Here it is made of the number, so that fill
// and run agree without a list.
func credential(n int) string {
	secret := sha256.Sum256(fmt.Appendf(nil, "load test machine %d", n))
	b := binary.BigEndian.AppendUint32(secret[:], crc32.ChecksumIEEE(secret[:]))
	return "tsm_" + base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(b)
}

// id sorts by the number, as ids made one after the other do.
func id(n int) string { return fmt.Sprintf("01900000-0000-7000-8000-%012x", n) }

func machineID(n int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "machine-id %d", n))
	return hex.EncodeToString(h[:])
}

const (
	release = "6.1.0-55-amd64"
	buildID = "35c1ff42d6bc1ef2ab6b5bf8a0b9d3d1e2f3a4b5"
)

// request appends the HTTP request of a check-in. The parts that change from
// one to the next have a fixed width, so that the length stays.
func request(b []byte, host string, n int, uptime, change int64, etag string) []byte {
	body := fmt.Sprintf(`{"agent":"1.0.0","boot_id":"6f1c2e0a-0000-4000-8000-%012x","run":"%016x","uptime":%d,"clock":%d,`+
		`"kernel":{"release":%q,"build_id":%q,"arch":"x86_64"},"patch":{"id":"debian-6.1.0-55-amd64-v3","name":"tsugi_debian_v3","version":3,"state":"healthy","since":%d},"able":true}`,
		n, n, 1_000_000+uptime, 1_700_000_000_000+uptime*1000, release, buildID, 1_700_000_000_000+change)
	b = append(b, "POST /v1/machine/check-in HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\nUser-Agent: tsugi/1.0.0\r\nContent-Type: application/json\r\nAuthorization: Bearer "...)
	b = append(b, credential(n)...)
	if etag != "" {
		b = append(b, "\r\nIf-None-Match: "...)
		b = append(b, etag...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}
