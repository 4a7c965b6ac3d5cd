# Writes INPUT, an encoded FileDescriptorSet, as a C array:
#   cmake -DINPUT=set.bin -DOUTPUT_DIR=dir -P embed_descriptors.cmake
file(READ "${INPUT}" hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
# 16 octets a line.
string(REPEAT "[0-9a-f]" 32 line)
string(REGEX REPLACE "(${line})" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," octets "${hex}")

file(WRITE "${OUTPUT_DIR}/prism_descriptors.h" "\
/* Encoded google.protobuf.FileDescriptorSet of every served protocol file and its imports;
 * each file comes after the files that it imports. Generated. */
#ifndef PRISM_DESCRIPTORS_H
#define PRISM_DESCRIPTORS_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t prism_descriptor_set[];
extern const size_t prism_descriptor_set_len;

#endif
")
file(WRITE "${OUTPUT_DIR}/prism_descriptors.c" "\
#include \"prism_descriptors.h\"

const uint8_t prism_descriptor_set[] = {
${octets}
};
const size_t prism_descriptor_set_len = ${size};
")
