// SPDX-License-Identifier: Apache-2.0

// Package include carries the C headers that authors of live patches use. The
// headers are GPL-2.0, since they become part of kernel modules.
package include

import "embed"

// Files holds "tsugi/livepatch.h". Written to a directory that is searched for
// headers, it lets a fix say #include <tsugi/livepatch.h>.
//
//go:embed tsugi/*.h
var Files embed.FS
