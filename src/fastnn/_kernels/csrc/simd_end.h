/* Forgets the short names of simd.h, so that the next dtype can define them anew. */
#undef VLEN
#undef NR
#undef vec
#undef mask
#undef INLINE
#undef load
#undef store
#undef splat
#undef load_part
#undef store_part
#undef select
#undef relu1
#undef FLOAT
#undef vexp
#undef vtanh
#undef vsigmoid
#undef verfc
