// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"path"
	"regexp"
	"strings"
)

// A struct that grows at its end needs memory behind the objects that exist.
// There is some in two places, and it is zero in both:
//
//   - The allocator gives memory in sizes of its own (mm/slab_common.c,
//     kmalloc_info), and kzalloc zeroes all of it (mm/slab.h,
//     slab_post_alloc_hook: object_size). A struct whose objects are all made one at
//     a time by kzalloc(sizeof(…)) may grow up to the next of these sizes.
//   - What a netlink dump keeps between its calls lies in the 48 bytes of
//     netlink_callback.ctx (include/linux/netlink.h), which
//     __netlink_dump_start has zeroed.

// bucket is the size that kmalloc has a cache for, on x86-64 with 4 KiB pages, 0 for more.
func bucket(n int) int {
	for _, size := range []int{8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192} {
		if n <= size {
			return size
		}
	}
	return 0
}

// roomOf is how many bytes belong to each object of a struct of some size, 0 if
// that is not known. header is what devm_kzalloc puts in front, 0 if that is not
// known.
func roomOf(sources []string, typ string, size, header int) int {
	made, ok := allocations(sources, typ)
	if !ok || len(made) == 0 {
		return 0
	}
	room := 0
	for _, m := range made {
		var n int
		switch {
		case m.alone && (m.by == "kzalloc" || m.by == "kzalloc_node"):
			n = bucket(size)
		case m.alone && m.by == "devm_kzalloc" && header > 0 && bucket(size+header) > 0:
			n = bucket(size+header) - header
		}
		if n < size {
			return 0
		}
		if room == 0 || n < room {
			room = n
		}
	}
	return room
}

const dumpContext = 48

// onlyDumpContext reports whether a struct of a source file is only used as
// what a netlink dump keeps between its calls.
func onlyDumpContext(src, typ string) bool {
	tag := strings.TrimPrefix(typ, "struct ")
	text := blankComments(src)
	if strings.Contains(text, "cb->args[4]") || strings.Contains(text, "cb->args[5]") || regexp.MustCompile(`cb->args\b[^\[]|cb->args\[[^0-9]`).MatchString(text) {
		return false // which may be the same memory
	}
	used := regexp.MustCompile(`\bstruct\s+` + regexp.QuoteMeta(tag) + `\b`)
	context := regexp.MustCompile(`^\s*\*\s*(\w+)\s*=\s*\(void \*\)\s*cb->ctx\s*;`)
	given := regexp.MustCompile(`^\s*\*\s*\w+\s*[,)]`)
	found := false
	for _, at := range used.FindAllStringIndex(text, -1) {
		rest := text[at[1]:]
		switch {
		case context.MatchString(rest):
			found = true
		case given.MatchString(rest), strings.HasPrefix(strings.TrimSpace(rest), "{"), strings.HasPrefix(strings.TrimSpace(rest), ";"):
		default:
			return false
		}
	}
	made, ok := allocations([]string{src}, typ)
	return found && ok && len(made) == 0
}

// room is how many bytes belong to each object of a type that is defined in a
// file, 0 if no more than its size is known.
func (f *fitted) room(typ, file string, size int) int {
	t := f.req.Target
	if path.Ext(file) == ".c" && onlyDumpContext(string(f.sources[file].Old), typ) && onlyDumpContext(string(f.sources[file].New), typ) {
		return dumpContext
	}
	// KFENCE guards the end of some objects, KASAN that of all.
	if !t.HasConfig("CONFIG_SLUB") || t.HasConfig("CONFIG_KFENCE") || t.HasConfig("CONFIG_KASAN") || t.HasConfig("CONFIG_SLUB_DEBUG_ON") || anybodys(file) || f.blind {
		return 0
	}
	header, _ := f.types.size("devres")
	return roomOf(f.readers, typ, size, header)
}

// anybodys reports whether what a file defines may be used anywhere.
func anybodys(file string) bool {
	return strings.HasPrefix(file, "include/") || strings.Contains(file, "/include/asm/") || strings.Contains(file, "/include/uapi/")
}
