// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"regexp"
	"slices"
	"strings"
)

// A member that comes into padding, or that new code leaves as it finds it, is
// zero in objects that were zeroed when they were made. That is read from the
// source: wherever the size of the struct is taken, it has to be for one of the
// kernel's functions that give zeroed memory. Anything else is taken for an
// object of which nothing is known.

// zeroing lists functions that take a size and zero what they return: those of
// the allocators, and those of subsystems that allocate their own struct with
// a driver's behind it.
var zeroing = regexp.MustCompile(`^(devm_)?(k[zc]alloc|kvzalloc|kvcalloc|vzalloc|vcalloc|kcalloc)(_node)?$|` +
	`^(ieee802154_alloc_hw|ieee80211_alloc_hw|wiphy_new|alloc_etherdev(_mqs?)?|alloc_netdev(_mqs?)?|alloc_candev|memstick_alloc_host|mmc_alloc_host|scsi_host_alloc|(devm_)?iio_device_alloc)$`)

// harmless lists what takes the size of a struct and makes no object of it;
// memset does neither where it clears.
var (
	harmless = regexp.MustCompile(`^(memset|BUILD_BUG_ON(_MSG)?|NL_ASSERT_DUMP_CTX_FITS|static_assert|sizeof|offsetof)$`)
	clears   = regexp.MustCompile(`\bmemset\s*\([^;]*,\s*0(x0+)?\s*,[^,;]*$`)
)

// about lists what takes a type and makes no object of it. Others may, as
// DEFINE_PER_CPU does.
var about = regexp.MustCompile(`^(sizeof|sizeof_field|struct_size(_t)?|offsetof(end)?|container_of(_const|_safe)?|typeof|__typeof__|__alignof__|\w*_entry(_\w+)?|list_for_each\w*|rb_\w+)$`)

var sizeTaken = regexp.MustCompile(`\b(sizeof|struct_size(?:_t)?)\s*(\(|\*?\s*\w)`)

// allocation is a place where the source makes objects of a struct.
type allocation struct {
	by    string // the function
	alone bool   // of exactly one
}

// alwaysZeroed reports whether the sources make objects of a struct, and all of
// them zeroed. typ is "struct NAME" of a tag or of a typedef; the sources are
// all that know the struct.
func alwaysZeroed(sources []string, typ string) bool {
	made, ok := allocations(sources, typ)
	return ok && len(made) > 0
}

// allocations lists where the sources make objects of a struct. It is false
// when they may make others that are not zeroed.
func allocations(sources []string, typ string) ([]allocation, bool) {
	name := regexp.QuoteMeta(strings.TrimPrefix(typ, "struct "))
	pointer := regexp.MustCompile(`(?:\bstruct\s+` + name + `|\b` + name + `)\s*\*[\s*]*(?:const\s+|__\w+\s+|restrict\s+)*(\w+)`)
	value := regexp.MustCompile(`(?:\bstruct\s+` + name + `|(?:^|[^\w>.])` + name + `)\s+(?:__\w+\s+)?\w+\s*(?:[;=,)\[:]|__)`)
	cache := regexp.MustCompile(`\bKMEM_CACHE\w*\s*\(\s*` + name + `\b`)
	itself := regexp.MustCompile(`^(?:struct\s+)?` + name + `$`)
	tag := regexp.MustCompile(`\bstruct\s+` + name + `\s*\{`)
	given := regexp.MustCompile(`[(,]\s*(?:const\s+)?(struct\s+` + name + `)\s*[,)]`)
	alias := regexp.MustCompile(`[(,]\s*(?:const\s+)?((?:struct\s+)?` + name + `)\s*[,)]`)
	pointers := map[string]bool{}
	var plain []string
	for _, src := range sources {
		text := blankComments(src)
		plain = append(plain, text)
		for _, m := range pointer.FindAllStringSubmatch(text, -1) {
			pointers[m[1]] = true
		}
	}
	if !slices.ContainsFunc(plain, tag.MatchString) {
		given = alias // of a typedef, or defined elsewhere
	}
	var made []allocation
	for _, text := range plain {
		for _, at := range given.FindAllStringSubmatchIndex(text, -1) {
			if !about.MatchString(caller(text, at[2])) {
				return nil, false // a macro that may make anything of it, or a value of the type
			}
		}
		if value.MatchString(text) || cache.MatchString(text) {
			return nil, false // inside of something else, on a stack, from a cache
		}
		for _, at := range sizeTaken.FindAllStringSubmatchIndex(text, -1) {
			word, arg := text[at[2]:at[3]], operand(text[at[4]:])
			of := lastName(arg)
			switch {
			case word != "sizeof":
				arg, _, _ = strings.Cut(arg, ",")
				if !pointers[lastName(arg)] && !itself.MatchString(strings.Join(strings.Fields(arg), " ")) {
					continue
				}
			case itself.MatchString(strings.Join(strings.Fields(arg), " ")):
			case !strings.HasPrefix(arg, "*") && !strings.HasSuffix(arg, "]") || !pointers[of]:
				continue
			}
			switch f := caller(text, at[0]); {
			case zeroing.MatchString(f):
				made = append(made, allocation{f, word == "sizeof" && alone(text, f, at[0], at[4])})
			case !harmless.MatchString(f), f == "memset" && !clears.MatchString(text[max(0, at[0]-200):at[0]]):
				return nil, false
			}
		}
	}
	return made, true
}

// alone reports whether sizeof and its operand are all of the argument that
// tells a function how much to allocate.
func alone(text, function string, at, operandAt int) bool {
	before := regexp.MustCompile(`\b` + function + `\s*\(\s*$`)
	if strings.HasPrefix(function, "devm_") {
		before = regexp.MustCompile(`\b` + function + `\s*\(\s*[\w>.&\-]+\s*,\s*$`)
	}
	rest := text[operandAt:]
	if !strings.HasPrefix(rest, "(") || !before.MatchString(text[max(0, at-96):at]) {
		return false
	}
	end := strings.Index(rest, operand(rest)) + len(operand(rest))
	return strings.HasPrefix(strings.Join(strings.Fields(rest[end:min(len(rest), end+16)]), ""), "),")
}

// operand is what stands behind sizeof, without the parentheses around it.
func operand(text string) string {
	if !strings.HasPrefix(text, "(") {
		return strings.TrimSpace(regexp.MustCompile(`^\*?\s*[\w.>\-]*`).FindString(text))
	}
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return strings.TrimSpace(text[1:i])
			}
		}
	}
	return ""
}

// lastName is the last identifier of an expression, without indices.
func lastName(expr string) string {
	expr = regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(expr, "")
	all := regexp.MustCompile(`\w+`).FindAllString(expr, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// caller is the function in whose arguments an offset of a text lies, "" when
// it is in none.
func caller(text string, at int) string {
	depth := 0
	for i := at - 1; i >= 0; i-- {
		switch text[i] {
		case ')':
			depth++
		case '(':
			if depth--; depth < 0 {
				if name := lastName(text[max(0, i-64):i]); strings.HasSuffix(strings.TrimSpace(text[:i]), name) && name != "" {
					return name
				}
				depth = 0 // a parenthesis around an expression
			}
		case ';', '{', '}':
			return ""
		}
	}
	return ""
}
