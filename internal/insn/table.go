// SPDX-License-Identifier: Apache-2.0

package insn

// Each table is a map of 16 by 16 opcodes: rows by the high digit, columns by
// the low one. A letter tells what follows the opcode byte:
//
//	.  undefined in 64-bit mode, or handled before the table is read
//	-  nothing
//	m  ModRM                      r  ModRM, always naming registers
//	b  ModRM, imm8                z  ModRM, immediate of operand size
//	g  ModRM, and for /0 and /1 an immediate (group 3)
//	1  imm8    2  imm16    e  imm16 and imm8 (enter)
//	4  immediate of operand size, at most 4 bytes
//	v  immediate of operand size, up to 8 bytes
//	o  an address (moffs)
//	j  rel8    J  rel32
//	x  ModRM, and with 66 or f2 two imm8 (extrq, insertq)
//	p  ModRM, defined only with f3 (popcnt)
type opmap [16]string

func (m *opmap) at(op byte) byte { return m[op>>4][op&15] }

var map1Byte = opmap{
	"mmmm14..mmmm14..", // 0
	"mmmm14..mmmm14..", // 1
	"mmmm14..mmmm14..", // 2
	"mmmm14..mmmm14..", // 3
	"................", // 4 REX
	"----------------", // 5
	"...m....4z1b----", // 6
	"jjjjjjjjjjjjjjjj", // 7
	"bz.bmmmmmmmmmmmm", // 8
	"----------.-----", // 9
	"oooo----14------", // a
	"11111111vvvvvvvv", // b
	"bb2-..bze-2--1.-", // c
	"mmmm...-mmmmmmmm", // d
	"jjjj1111JJ.j----", // e
	".-..--gg------mm", // f
}

var map0F = opmap{
	"mmmm.-----.-.m-b", // 0
	"mmmmmmmmmmmmmmmm", // 1
	"rrrr....mmmmmmmm", // 2
	"------.-........", // 3
	"mmmmmmmmmmmmmmmm", // 4
	"mmmmmmmmmmmmmmmm", // 5
	"mmmmmmmmmmmmmmmm", // 6
	"bbbbmmm-xm..mmmm", // 7
	"JJJJJJJJJJJJJJJJ", // 8
	"mmmmmmmmmmmmmmmm", // 9
	"---mbmrr---mbmmm", // a
	"mmmmmmmmpmbmmmmm", // b
	"mmbmbbbm--------", // c
	"mmmmmmmmmmmmmmmm", // d
	"mmmmmmmmmmmmmmmm", // e
	"mmmmmmmmmmmmmmmm", // f
}

var map0F38 = opmap{
	"mmmmmmmmmmmm....", // 0
	"m...mm.m....mmm.", // 1
	"mmmmmm..mmmm....", // 2
	"mmmmmm.mmmmmmmmm", // 3
	"mm..............", // 4
	"................", // 5
	"................", // 6
	"................", // 7
	"mmm.............", // 8
	"................", // 9
	"................", // a
	"................", // b
	"........mmmmmm.m", // c
	"........m..mmmmm", // d
	"................", // e
	"mm...mm.mmmmm...", // f
}

var map0F3A = opmap{
	"........bbbbbbbb", // 0
	"....bbbb........", // 1
	"bbb.............", // 2
	"................", // 3
	"bbb.b...........", // 4
	"................", // 5
	"bbbb............", // 6
	"................", // 7
	"................", // 8
	"................", // 9
	"................", // a
	"................", // b
	"............b.bb", // c
	"...............b", // d
	"................", // e
	"b...............", // f
}

var vex0F = opmap{
	"................", // 0
	"mmmmmmmm........", // 1
	"........mmmmmmmm", // 2
	"................", // 3
	".mm.mmmm..mm....", // 4 opmasks
	"mmmmmmmmmmmmmmmm", // 5
	"mmmmmmmmmmmmmmmm", // 6
	"bbbbmmm-....mmmm", // 7
	"................", // 8
	"mmmm....mm......", // 9 opmasks
	"..............m.", // a
	"................", // b
	"..b.bbb.........", // c
	"mmmmmmmmmmmmmmmm", // d
	"mmmmmmmmmmmmmmmm", // e
	"mmmmmmmmmmmmmmm.", // f
}

var vex0F38 = opmap{
	"mmmmmmmmmmmmmmmm", // 0
	"...m..mmmmm.mmm.", // 1
	"mmmmmm..mmmmmmmm", // 2
	"mmmmmmmmmmmmmmmm", // 3
	"mm...mmm.m.m....", // 4
	"mmmm....mmm.m.m.", // 5
	"................", // 6
	"..m.....mm......", // 7
	"............m.m.", // 8
	"mmmm..mmmmmmmmmm", // 9
	"......mmmmmmmmmm", // a
	"mm..mmmmmmmmmmmm", // b
	"...............m", // c
	"...........mmmmm", // d
	"mmmmmmmmmmmmmmmm", // e
	"..mm.mmm........", // f
}

var vex0F3A = opmap{
	"bbb.bbb.bbbbbbbb", // 0
	"....bbbbbb...b..", // 1
	"bbb.............", // 2
	"bbbb....bb......", // 3
	"bbb.b.b.bbbbb...", // 4
	"............bbbb", // 5
	"bbbb....bbbbbbbb", // 6
	"........bbbbbbbb", // 7
	"................", // 8
	"................", // 9
	"................", // a
	"................", // b
	"..............bb", // c
	"...............b", // d
	"................", // e
	"b...............", // f
}

var evex0F = opmap{
	"................", // 0
	"mmmmmmmm........", // 1
	"........mmmmmmmm", // 2
	"................", // 3
	"................", // 4
	".m..mmmmmmmmmmmm", // 5
	"mmmmmmmmmmmmmmmm", // 6
	"bbbbmmm.mmmm..mm", // 7
	"................", // 8
	"................", // 9
	"................", // a
	"................", // b
	"..b.bbb.........", // c
	".mmmmmm.mmmmmmmm", // d
	"mmmmmmmmmmmmmmmm", // e
	".mmmmmm.mmmmmmm.", // f
}

var evex0F38 = opmap{
	"m...m......mmm..", // 0
	"mmmmmmm.mmmmmmmm", // 1
	"mmmmmmmmmmmmmm..", // 2
	"mmmmmmmmmmmmmmmm", // 3
	"m.mmmmmm....mmmm", // 4
	"mmmmmm..mmmm....", // 5
	"..mmmmm.m.......", // 6
	"mmmm.mmmmmmmmmmm", // 7
	"...m....mmmm.m.m", // 8
	"mmmm..mmmmmmmmmm", // 9
	"mmmm..mmmmmmmmmm", // a
	"....mmmmmmmmmmmm", // b
	"....m.mmm.mmmm.m", // c
	"............mmmm", // d
	"................", // e
	"................", // f
}

var evex0F3A = opmap{
	"bb.bbb..bbbb...b", // 0
	"....bbbbbbbb.bbb", // 1
	"bbbb.bbb........", // 2
	"........bbbb..bb", // 3
	"..bbb...........", // 4
	"bb..bbbb........", // 5
	"......bb........", // 6
	"bbbb............", // 7
	"................", // 8
	"................", // 9
	"................", // a
	"................", // b
	"..b...........bb", // c
	"................", // d
	"................", // e
	"................", // f
}

var evexMap5 = opmap{
	"................", // 0
	"mm...........m..", // 1
	"..........m.mmmm", // 2
	"................", // 3
	"................", // 4
	".m......mmmmmmmm", // 5
	"..............m.", // 6
	"........mmmmmmm.", // 7
	"................", // 8
	"................", // 9
	"................", // a
	"................", // b
	"................", // c
	"................", // d
	"................", // e
	"................", // f
}

var evexMap6 = opmap{
	"................", // 0
	"...m............", // 1
	"............mm..", // 2
	"................", // 3
	"..mm........mmmm", // 4
	"......mm........", // 5
	"................", // 6
	"................", // 7
	"................", // 8
	"......mmmmmmmmmm", // 9
	"......mmmmmmmmmm", // a
	"......mmmmmmmmmm", // b
	"................", // c
	"......mm........", // d
	"................", // e
	"................", // f
}
