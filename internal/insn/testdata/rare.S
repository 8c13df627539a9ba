/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions of kernel assembly that no compiler emits by itself. */
	.text
	endbr64
	endbr32
	ud2
	ud1 %eax, %ecx
	ud1 0x3(%rax), %ecx
	int3
	hlt
	clac
	stac
	swapgs
	rdtscp
	syscall
	sysretq
	sysretl
	iretq
	lretq
	ret $8
	enter $16, $2
	leave
	movabs 0x1122334455667788, %al
	movabs %rax, 0x1122334455667788
	movabs $0x1122334455667788, %r11
	mov $0x11223344, %r9d
	movq $-5, %r8
	movw $0x1122, 8(%rsp)
	movb $1, counter(%rip)
	movl $1, counter(%rip)
	movq $1, counter(%rip)
	testb $8, counter(%rip)
	testl $8, 4(%rax,%rcx,2)
	testw $8, %cx
	notl (%rax)
	imul $0x1000, %rax, %rbx
	imul $3, %rax, %rbx
	push $5
	push $0x55555
	pushw $0x555
	adcx %rax, %rbx
	adox (%rax), %rbx
	mulx %rax, %rbx, %rcx
	rorx $5, %rax, %rbx
	vzeroupper
	vzeroall
	vmcall
	vmlaunch
	vmresume
	vmxoff
	vmread %rax, (%rbx)
	vmwrite (%rax), %rbx
	vmptrld (%rax)
	vmclear (%rax)
	vmxon (%rax)
	invept (%rax), %rbx
	invvpid (%rax), %rbx
	vmrun
	vmsave
	vmload
	stgi
	clgi
	vmmcall
	xsave64 (%rdi)
	xsaves64 (%rdi)
	xsaveopt (%rdi)
	xrstors64 (%rdi)
	fxsave64 (%rdi)
	xgetbv
	xsetbv
	mov %cr3, %rax
	mov %rax, %cr8
	mov %dr7, %rax
	lgdt (%rax)
	sidt (%rax)
	invlpg (%rax)
	invpcid (%rax), %rbx
	lock cmpxchg16b (%rdi)
	lock btsl $5, (%rdi)
	rep stosq
	repne scasb
	pause
	mfence
	sfence
	clflushopt (%rax)
	clwb (%rax)
	rdrand %rax
	rdseed %ecx
	rdpid %rax
	movdir64b (%rax), %rbx
	enqcmd (%rax), %rbx
	wrssq %rax, (%rbx)
	wrussq %rax, (%rbx)
	incsspq %rax
	rstorssp (%rax)
	saveprevssp
	setssbsy
	serialize
	xbegin 1f
1:	xend
	xabort $5
	aesenc %xmm0, %xmm1
	aeskeygenassist $1, %xmm0, %xmm1
	pclmulqdq $0x11, %xmm0, %xmm1
	sha256rnds2 %xmm1, %xmm2
	sha1rnds4 $2, %xmm1, %xmm2
	crc32q (%rax), %rbx
	pshufb %xmm9, %xmm10
	vpternlogd $0x96, 64(%rax), %zmm1, %zmm2{%k1}{z}
	vpbroadcastb %eax, %zmm5
	kmovq %k1, %rax
	kshiftlq $3, %k1, %k2
	vgf2p8affineqb $1, %zmm0, %zmm1, %zmm2
	fnsave (%rax)
	fldcw (%rax)
	fwait
	fstcw (%rax)
	emms
	femms
	pfadd %mm0, %mm1
	call *%rax
	call *8(%rbx)
	jmp *%r11
	notrack jmp *table(,%rax,8)
	call foo
	jmp foo
	cs jne foo
	jrcxz .+8
	loop .-2
	.byte 0x2e, 0xe8, 0, 0, 0, 0
	.byte 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0
	.byte 0x0f, 0xa7, 0xc8
	tdcall
	seamcall
	nopw %cs:0x200(%rax,%rax,1)
	.byte 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
	mov %fs:0x28, %rax
	mov %gs:counter(%rip), %rax
	addl $1, %gs:counter(%rip)
	lea 0(,%rax,4), %rbx
	mov 0x1234, %eax
	addr32 mov (%eax), %ebx
	movabs $foo, %rax
