# SPDX-License-Identifier: Apache-2.0
# Functions into whose first bytes jumps lead: inside from itself, which does no
# harm when nobody is in it, trespassed from another function.

	.section .text.inside,"ax",@progbits
	.globl	inside
	.type	inside, @function
	.p2align 4
inside:	# a loop leads to its fourth byte
	.cfi_startproc
	movq	%rdi, %rax
1:	decq	%rdi
	jg	1b
	.if LEVEL == 1
	addq	$100, %rax
	.else
	addq	$1, %rax
	.endif
	ret
	.cfi_endproc
	.size	inside, . - inside

	# another function leads to its fourth byte
	.section .text.trespasser,"ax",@progbits
	.globl	trespasser
	.type	trespasser, @function
	.p2align 4
trespasser:
	.cfi_startproc
	movq	%rdi, %rax
	jmp	trespassed + 3
	.cfi_endproc
	.size	trespasser, . - trespasser

	.section .text.trespassed,"ax",@progbits
	.globl	trespassed
	.type	trespassed, @function
	.p2align 4
trespassed:
	.cfi_startproc
	movq	%rdi, %rax
	.if LEVEL == 2
	addq	$100, %rax
	.else
	addq	$1, %rax
	.endif
	ret
	.cfi_endproc
	.size	trespassed, . - trespassed

	.section .note.GNU-stack,"",@progbits
