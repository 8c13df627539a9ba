# SPDX-License-Identifier: Apache-2.0
# A function shorter than a jump, with another right behind it.

	.section .text.crowded,"ax",@progbits
	.globl	crowded
	.type	crowded, @function
	.p2align 4
	.if LEVEL
crowded:
	.cfi_startproc
	leaq	7(%rdi,%rdi), %rax
	ret
	.cfi_endproc
	.else
crowded:
	.cfi_startproc
	movl	%edi, %eax
	ret
	.cfi_endproc
	.endif
	.size	crowded, . - crowded

	.globl	neighbour
	.type	neighbour, @function
neighbour:
	.cfi_startproc
	leaq	1(%rdi), %rax
	ret
	.cfi_endproc
	.size	neighbour, . - neighbour

	.section .note.GNU-stack,"",@progbits
